"""Files that are there whole or not at all."""

import contextlib
import fcntl
import glob
import json
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

from mmdiffusion_jax import errors

_UNFINISHED = re.compile(r"\..+\.\d+")


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Opens a binary file that takes its name, and the place of an older one, when it is whole.

    It is written beside its place under a hidden name that holds the process's number, brought to
    the disk and renamed. Where the block fails it is removed, and an older file stays. What a
    process that was killed has left of the same file is removed as well.

    Args:
        path: of the file; its folder must be there.

    Yields:
        The stream to write to.

    Raises:
        OSError: it cannot be written; the error has its name.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with replacing(f"{folder}/a") as stream:
        ...         _ = stream.write(b"whole")
        ...         before = Path(folder, "a").exists()
        ...     before, Path(folder, "a").read_bytes()
        (False, b'whole')
    """
    file = Path(path)
    _remove_leftovers(file)
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    with naming(file):
        try:
            with temporary.open("wb") as stream:
                # Tells others that this one has a living writer.
                _try_lock(stream)
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, file)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Gives the errors of a block the name of the file it writes, which a full disk leaves out.

    Args:
        path: of the file.

    Example:
        >>> with naming("a.json"):
        ...     raise OSError(28, "No space left on device")
        Traceback (most recent call last):
        ...
        OSError: [Errno 28] No space left on device: 'a.json'
    """
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


def is_unfinished(path: str | os.PathLike[str]) -> bool:
    """Whether a file is one that `replacing` has under way, or was killed over.

    Example:
        >>> is_unfinished("out/.samples.npz.4711"), is_unfinished("out/samples.npz")
        (True, False)
    """
    return _UNFINISHED.fullmatch(Path(path).name) is not None


def _remove_leftovers(file: Path) -> None:
    for other in file.parent.glob(f".{glob.escape(file.name)}.*"):
        if is_unfinished(other):
            with contextlib.suppress(OSError), other.open("ab") as stream:
                if _try_lock(stream):
                    other.unlink()


def _try_lock(stream: IO[bytes]) -> bool:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        # Held by another, or by a file system without locks, where nobody is known to be gone.
        return False
    return True


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes a text file in UTF-8, all of it or nothing.

    Args:
        path: of the file; its folder must be there.
        text: its whole content.

    Raises:
        OSError: it cannot be written; an older file stays.
    """
    with replacing(path) as stream:
        stream.write(text.encode())


def write_png(path: str | os.PathLike[str], image: np.ndarray) -> None:
    """Writes a picture, all of it or nothing.

    Args:
        path: of the file; its folder must be there.
        image: (height, width, 3) uint8.

    Raises:
        OSError: it cannot be written; an older file stays.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_png(f"{folder}/red.png", np.full((2, 3, 3), (255, 0, 0), np.uint8))
        ...     Image.open(f"{folder}/red.png").getpixel((2, 1))
        (255, 0, 0)
    """
    with replacing(path) as stream:
        Image.fromarray(image).save(stream, format="png")


@contextlib.contextmanager
def locked(folder: str | os.PathLike[str], argument: str) -> Iterator[None]:
    """Holds a folder for this process alone, by a lock on the file `lock` in it.

    The system gives the lock back when the process ends, however it ends; the file stays and says
    who had it last. Network file systems hold it between hosts if they support `flock`.

    Args:
        folder: it must be there.
        argument: what the caller knows the folder by.

    Raises:
        ValueError: another process holds it.
        OSError: the folder cannot be written to.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, locked(folder, "workdir"):
        ...     with locked(folder, "workdir"):
        ...         pass
        Traceback (most recent call last):
        ...
        ValueError: `workdir`: got ..., which process ... expected a folder of its own ...
    """
    path = Path(folder) / "lock"
    with path.open("a+", encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            stream.seek(0)
            try:
                holder = json.loads(stream.read())
                who = f"process {holder['process']} on {holder['host']}"
            except (ValueError, KeyError, TypeError):
                who = "another process"
            raise ValueError(
                errors.message(
                    argument,
                    f"{folder}, which {who} is writing to",
                    "a folder of its own for every run at a time",
                    "wait for that one, stop it, or choose another folder",
                )
            ) from error
        stream.truncate(0)
        stream.write(json.dumps({"process": os.getpid(), "host": socket.gethostname()}) + "\n")
        stream.flush()
        yield
