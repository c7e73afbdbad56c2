"""Paths as users write them, on a disk or in a bucket.

Errors call a path by its `argument`, the name that the caller knows it by.
"""

import os
import re
from pathlib import Path
from typing import cast

from mmdiffusion_jax import errors
from mmdiffusion_jax.files.buckets import BucketPath, bucket_path, is_bucket

# A `Path` keeps one slash of two; a single letter before the colon is a drive.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


def local_path(path: str | os.PathLike[str], argument: str) -> Path:
    """A path on a disk as the user means it: `~` is the home folder, and a URL is no path.

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
            "a path of a mounted file system, as URLs are not supported here",
            "mount it and name its folder, such as /mnt/data",
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


def to_path(path: str | os.PathLike[str], argument: str = "path") -> Path:
    """A path as the user means it, on a disk or in a bucket: gs://BUCKET/… or s3://BUCKET/….

    A path in a bucket has the methods of `pathlib.Path` too, except that there it takes `replacing`
    to write. Nothing need be there.

    Raises:
        ValueError: as `local_path`, but for a bucket's URL; a URL without a bucket's name, or of a
            store whose library is not installed.

    Example:
        >>> to_path("~/runs") == Path.home() / "runs"
        True
        >>> to_path("https://host/runs", "workdir")
        Traceback (most recent call last):
        ...
        ValueError: `workdir`: got 'https://host/runs', expected a path of a mounted file ...
    """
    if isinstance(path, BucketPath):
        return cast(Path, path)
    if is_bucket(os.fspath(path)):
        return cast(Path, bucket_path(os.fspath(path), argument))
    if _URL.match(os.fspath(path)):
        raise errors.invalid(
            argument,
            repr(os.fspath(path)),
            "a path of a mounted file system, or one in a bucket at gs:// or s3://",
            "mount it and name its folder, such as /mnt/runs",
        )
    return local_path(path, argument)


def same_place(one: str | os.PathLike[str], other: str | os.PathLike[str]) -> bool:
    """Whether two paths lead to the same place.

    Example:
        >>> same_place("runs/../runs/a", "runs/a/")
        True
    """
    return str(to_path(one).resolve()) == str(to_path(other).resolve())
