"""Whether a place can be written to, tried before the work whose result goes there."""

import contextlib
import os
import shutil
import tempfile
import time
from pathlib import Path

from mmdiffusion_jax import errors
from mmdiffusion_jax.files.buckets import BucketPath, require_writable
from mmdiffusion_jax.files.places import to_path
from mmdiffusion_jax.files.whole import replacing

_PROBE, _LEFT_SECONDS = ".probe.", 3600


def writable_folder(path: str | os.PathLike[str], argument: str) -> Path:
    """Makes sure that a folder can be written to, before the work whose result goes there.

    It writes a file there and removes it, in the folder or, where that is missing, where it would
    be made. What was there stays, and nothing is left behind. It returns the path, `~` expanded.

    Raises:
        ValueError: a URL of no bucket, a file where a folder has to be, or a place that cannot be
            written to.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = writable_folder(f"{folder}/new/out", "out")
        ...     path.name, os.listdir(folder)
        ('out', [])
    """
    folder = to_path(path, argument)
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
        ValueError: a URL of no bucket, a folder where a file has to be, no folder for it, a place
            that cannot be written to, or a name with another ending.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     writable_file(folder, "out")
        Traceback (most recent call last):
        ...
        ValueError: `out`: got ..., which is a folder, expected a file; name a file in it.
    """
    file = to_path(path, argument)
    _try_to_write(file, argument, file)
    if file.is_dir():
        raise errors.invalid(argument, f"{file}, which is a folder", "a file", "name a file in it")
    if not (make_folder or isinstance(file, BucketPath) or os.path.lexists(file.parent)):
        raise errors.invalid(
            argument,
            f"{file}, whose folder is not there",
            "a file in a folder that exists",
            f"make {file.parent} first, or choose another",
        )
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
    if isinstance(file, BucketPath):
        require_writable(file.parent, argument, shown)
        return
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
