"""Files that are there whole or not at all, and paths as users write them.

Errors call a path by its `argument`, the name that the caller knows it by.
"""

import contextlib
import errno
import glob
import json
import os
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import filelock
import numpy as np
from absl import logging
from PIL import Image

from mmdiffusion_jax import errors

_PROBE, _LEFT_SECONDS = ".probe.", 3600
_UNFINISHED = re.compile(r"\..+\.\d+")
# A `Path` keeps one slash of two; a single letter before the colon is a drive.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


def local_path(path: str | os.PathLike[str], argument: str) -> Path:
    """A path as the user means it: `~` is the home folder, and a URL is no path.

    The shell expands `~` only at the beginning of a word, so it comes as it is in `--out=~/x` and
    from a config. The file or folder need not be there.

    Raises:
        ValueError: nothing, a URL such as `gs://bucket/x`, or `~name` of a user that is not there.

    Example:
        >>> local_path("~/runs", "workdir") == Path.home() / "runs"
        True
        >>> local_path("gs://bucket/runs", "workdir")
        Traceback (most recent call last):
        ...
        ValueError: `workdir`: got 'gs://bucket/runs', expected a path of a mounted file system, ...
    """
    text = os.fspath(path)
    if not text:
        raise errors.invalid(argument, "nothing", "a path", "name one, or leave the flag out")
    if _URL.match(text):
        raise errors.invalid(
            argument,
            repr(text),
            "a path of a mounted file system, as URLs are not supported",
            "mount it and name its folder, such as /mnt/runs",
        )
    expanded = os.path.expanduser(text)
    if expanded.startswith("~"):
        raise errors.invalid(
            argument,
            f"{text!r}, and there is no such user",
            "~ or ~name of a user, then a path",
            f"write ./{text} for what has this name",
        )
    return Path(expanded)


def writable_folder(path: str | os.PathLike[str], argument: str) -> Path:
    """Makes sure that a folder can be written to, before the work whose result goes there.

    It writes a file there and removes it, in the folder or, where that is missing, where it would
    be made. What was there stays, and nothing is left behind. It returns the path, `~` expanded.

    Raises:
        ValueError: a URL, a file where a folder has to be, or a place that cannot be written to.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = writable_folder(f"{folder}/new/out", "out")
        ...     path.name, os.listdir(folder)
        ('out', [])
    """
    folder = local_path(path, argument)
    _try_to_write(folder / "file", argument, folder)
    return folder


def writable_file(
    path: str | os.PathLike[str], argument: str, make_folder: bool = False, suffix: str = ""
) -> Path:
    """Makes sure that a file can be written, before the work whose result it gets.

    It tries by another file, as `writable_folder` does, and returns the path as that does. The file
    may be there.

    Args:
        path: of the file.
        argument: what errors call it.
        make_folder: whether the caller makes the file's folder where that is not there.
        suffix: what its name has to end with.

    Raises:
        ValueError: a URL, a folder where a file has to be, no folder for it, a place that cannot be
            written to, or a name with another ending.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     writable_file(folder, "out")
        Traceback (most recent call last):
        ...
        ValueError: `out`: got ..., which is a folder, expected a file; name a file in it.
    """
    file = local_path(path, argument)
    if os.path.isdir(file):
        raise errors.invalid(argument, f"{file}, which is a folder", "a file", "name a file in it")
    nearest, missing = _nearest_folder(file)
    if len(missing) > 1 and nearest.is_dir() and not make_folder:
        raise errors.invalid(
            argument,
            f"{file}, whose folder is not there",
            "a file in a folder that exists",
            f"make {file.parent} first, or choose another",
        )
    _try_to_write(file, argument, file)
    if suffix and file.suffix != suffix:
        raise errors.invalid(argument, repr(str(path)), f"a file *{suffix}", "rename it")
    return file


def _nearest_folder(file: Path) -> tuple[Path, list[str]]:
    """The nearest of a file's folders that is there, or what is in its place, and the way on."""
    folder, missing = Path(os.path.abspath(file)).parent, [file.name]
    while not os.path.lexists(folder):
        folder, missing = folder.parent, [folder.name, *missing]
    return folder, missing


def _try_to_write(file: Path, argument: str, shown: Path) -> None:
    """Writes a file of this name below a folder of its own, in the nearest folder there is."""
    folder, missing = _nearest_folder(file)
    try:
        # A killed process leaves its probe; a young one may belong to a process that lives.
        for other in folder.glob(f"{_PROBE}*"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - other.lstat().st_mtime > _LEFT_SECONDS:
                    shutil.rmtree(other, ignore_errors=True)
        with tempfile.TemporaryDirectory(
            prefix=_PROBE, suffix=f".{os.getpid()}", dir=folder
        ) as probe:
            place = Path(probe, *missing)
            place.parent.mkdir(parents=True, exist_ok=True)
            with replacing(place) as stream:
                stream.write(b"0")
    except OSError as error:
        reason = error.strerror or str(error)
        if not folder.is_dir():
            reason = f"{folder} is not a folder"
        raise errors.invalid(
            argument,
            f"{shown}, which cannot be written ({reason})",
            "a place on a disk with room, where this user may write",
            "choose another, or mend its permissions",
        ) from error


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str], tidy: bool = True) -> Iterator[IO[bytes]]:
    """Opens a binary file that takes its name, and the place of an older one, when it is whole.

    The file is written beside its place under a dotted name with the process's number, synced to
    the disk and renamed. Where the block fails it is removed, and an older file stays. What killed
    processes have left of the same file is removed as well.

    Args:
        path: of the file; its folder must be there.
        tidy: whether to look for what killed processes have left, which reads the folder.

    Yields:
        The stream to write to.

    Raises:
        OSError: the file cannot be written; the error names it, or its folder where that is
            missing.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with replacing(f"{folder}/a") as stream:
        ...         _ = stream.write(b"whole")
        ...         before = Path(folder, "a").exists()
        ...     before, Path(folder, "a").read_bytes()
        (False, b'whole')
    """
    file = Path(path)
    if not os.path.lexists(file.parent):
        raise FileNotFoundError(errno.ENOENT, "No such folder", str(file.parent))
    if tidy:
        remove_leftovers(file.parent, file.name)
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    with naming(file, temporary):
        try:
            with temporary.open("wb") as stream:
                # The lock tells other processes that this file has a living writer.
                _try_lock(stream)
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, file)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def naming(
    path: str | os.PathLike[str], hidden: str | os.PathLike[str] | None = None
) -> Iterator[None]:
    """Gives the errors of a block the path of the file it writes, which a full disk leaves out.

    `hidden` is the name that the file has while it is written, which errors must not show.

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
        if error.errno is not None and error.filename in (None, str(hidden)):
            error.filename = str(path)
            # Renaming has two names.
            del error.filename2
        raise


def is_unfinished(path: str | os.PathLike[str]) -> bool:
    """Whether `replacing` is writing this file, or was killed while it did.

    Example:
        >>> is_unfinished("out/.samples.npz.4711"), is_unfinished("out/samples.npz")
        (True, False)
    """
    return _UNFINISHED.fullmatch(Path(path).name) is not None


def remove_leftovers(folder: str | os.PathLike[str], name: str | None = None) -> None:
    """Removes what killed processes left unfinished, of one name or any, in a folder if it exists.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for file in (".a.png.4711", "a.png"):
        ...         _ = Path(folder, file).write_bytes(b"")
        ...     remove_leftovers(folder)
        ...     os.listdir(folder)
        ['a.png']
    """
    for other in Path(folder).glob(f".{'*' if name is None else glob.escape(name)}.*"):
        if is_unfinished(other):
            with contextlib.suppress(OSError), other.open("ab") as stream:
                if _try_lock(stream):
                    other.unlink()


def _try_lock(stream: IO[bytes]) -> bool:
    try:
        return filelock.lock_descriptor(stream.fileno(), blocking=False)
    except OSError:
        # On a file system without locks nobody is known to be gone.
        return False


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes a text file in UTF-8, as `replacing` does, in a folder that is there."""
    with replacing(path) as stream:
        stream.write(text.encode())


def write_png(path: str | os.PathLike[str], image: np.ndarray, tidy: bool = True) -> None:
    """Writes a picture (height, width, 3) uint8 as a PNG file, as `replacing` does.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_png(f"{folder}/red.png", np.full((2, 3, 3), (255, 0, 0), np.uint8))
        ...     Image.open(f"{folder}/red.png").getpixel((2, 1))
        (255, 0, 0)
    """
    with replacing(path, tidy) as stream:
        Image.fromarray(image).save(stream, format="png")


@contextlib.contextmanager
def locked(folder: str | os.PathLike[str], argument: str) -> Iterator[None]:
    """Holds a folder for this process alone, by a lock on the file `lock` in it.

    The system gives the lock back when the process ends, however it ends; the file stays and says
    who had it last. Network file systems hold it between hosts if they support `flock`. Where the
    system has no locks, a warning says that the folder is not held. The folder must be there.

    Raises:
        ValueError: another process holds it.
        OSError: the folder cannot be written to.

    Example:
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
            is_ours = filelock.lock_descriptor(stream.fileno(), blocking=False)
        except OSError as error:
            if error.errno != errno.ENOSYS:
                raise
            logging.warning(
                "This system has no locks: see to it yourself that no other process writes to %s.",
                folder,
            )
            is_ours = True
        if not is_ours:
            raise errors.invalid(
                argument,
                f"{folder}, which {_holder(stream)} is writing to",
                "a folder of its own for every run at a time",
                "wait for that one, stop it, or choose another folder",
            )
        stream.truncate(0)
        stream.write(json.dumps({"process": os.getpid(), "host": socket.gethostname()}) + "\n")
        stream.flush()
        yield


def _holder(stream: IO[str]) -> str:
    stream.seek(0)
    try:
        holder = json.loads(stream.read())
        return f"process {holder['process']} on {holder['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        # Windows does not let others read what is locked.
        return "another process"
