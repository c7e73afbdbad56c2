"""Files that are there whole or not at all.

A file on a disk is written beside its place and renamed. An object in a bucket is put as a whole,
which the stores do at once or not at all.
"""

import contextlib
import errno
import glob
import os
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

import filelock
import numpy as np
from PIL import Image

from mmdiffusion_jax.files import leases
from mmdiffusion_jax.files.buckets import BucketPath, reason, store
from mmdiffusion_jax.files.places import to_path

_UNFINISHED = re.compile(r"\..+\.\d+")


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str], tidy: bool = True) -> Iterator[IO[bytes]]:
    """Opens a binary file that takes its name, and the place of an older one, when it is whole.

    The file is written beside its place under a dotted name with the process's number, synced to
    the disk and renamed. Where the block fails it is removed, and an older file stays. What killed
    processes have left of the same file is removed as well. What goes into a bucket is written to a
    file of the system's temporary folder, and put when the block ends.

    Args:
        path: of the file; its folder must be there. Or of an object in a bucket.
        tidy: whether to look for what killed processes have left, which reads the folder.

    Yields:
        The stream to write to.

    Raises:
        OSError: the file cannot be written; the error names it, or its folder where that is
            missing.
        files.LeaseLostError: another process has taken over the folder in a bucket.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with replacing(f"{folder}/a") as stream:
        ...         _ = stream.write(b"whole")
        ...         before = Path(folder, "a").exists()
        ...     before, Path(folder, "a").read_bytes()
        (False, b'whole')
    """
    file = to_path(path)
    if isinstance(file, BucketPath):
        with _putting(file) as stream:
            yield stream
        return
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
def _putting(path: BucketPath) -> Iterator[IO[bytes]]:
    with tempfile.NamedTemporaryFile() as stream:
        yield stream
        stream.flush()
        leases.require_held(path)
        _put(Path(stream.name), path)


def _put(file: Path, path: BucketPath) -> None:
    try:
        store(path).put_file(str(file), str(path))
    # What the libraries raise shares no type.
    except Exception as error:
        raise OSError(errno.EIO, f"the store refused ({reason(error)})", str(path)) from error


class Copied:
    """A folder that other libraries write to on a disk, copied to its bucket where it has one.

    Args:
        folder: where the files are to be.
        seconds: between two copies.

    Attributes:
        disk: the folder to write to: `folder` itself, or one of the system's temporary folder.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Copied(Path(folder)).disk == Path(folder)
        True
    """

    def __init__(self, folder: Path, seconds: float = 60.0) -> None:
        self._folder, self._seconds = folder, seconds
        self._copied = -float("inf")
        self._temporary = None
        self.disk = folder
        if isinstance(folder, BucketPath):
            self._temporary = tempfile.TemporaryDirectory()
            self.disk = Path(self._temporary.name)

    def copy_if_due(self) -> None:
        """Copies the files if it was not done for a while."""
        if self._temporary is not None and time.monotonic() - self._copied > self._seconds:
            self._copy()

    def close(self) -> None:
        """Copies the files and deletes those on the disk, if they are a copy."""
        if self._temporary is not None:
            with self._temporary:
                self._copy()

    def _copy(self) -> None:
        for file in self.disk.rglob("*"):
            if file.is_file():
                target = cast(BucketPath, self._folder / file.relative_to(self.disk).as_posix())
                leases.require_held(target)
                _put(file, target)
        self._copied = time.monotonic()


@contextlib.contextmanager
def local_copy(path: str | os.PathLike[str]) -> Iterator[Path]:
    """The file itself, or for a block a copy of an object, for readers that want a disk.

    Raises:
        FileNotFoundError: there is no such object.

    Example:
        >>> with local_copy("setup.py") as file:
        ...     str(file)
        'setup.py'
    """
    file = to_path(path)
    if not isinstance(file, BucketPath):
        yield file
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, file.name)
        store(file).get_file(str(file), str(copy))
        yield copy


def move(source: Path, target: Path) -> None:
    """Renames a file or a folder; in a bucket it is copied, then deleted.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_text(f"{folder}/a", "text")
        ...     move(Path(folder, "a"), Path(folder, "b"))
        ...     os.listdir(folder)
        ['b']
    """
    if isinstance(source, BucketPath):
        objects = list(source.objects())
        for item in objects:
            inside = "" if item == source else f"/{item.relative_to(source)}"
            store(source).cp_file(str(item), f"{target}{inside}")
        for item in objects:
            item.unlink(missing_ok=True)
    else:
        os.rename(source, target)


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
    return _UNFINISHED.fullmatch(os.path.basename(os.fspath(path))) is not None


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
    place = to_path(folder)
    if isinstance(place, BucketPath):
        return  # a put that fails leaves nothing
    for other in place.glob(f".{'*' if name is None else glob.escape(name)}.*"):
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
    """Writes a text file in UTF-8, as `replacing` does, in a folder that is there.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_text(f"{folder}/a", "λ = 0.1")
        ...     Path(folder, "a").read_text(encoding="utf-8")
        'λ = 0.1'
    """
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
