"""Buckets at gs:// and s3://, whose objects are read and written as files are.

Objects come and go by fsspec's gcsfs and s3fs, with credentials and endpoints that these find as
other programs do; TensorStore writes arrays, and whatever needs a condition.
"""

import functools
import importlib.util
import os
import posixpath
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import fsspec
import fsspec.config
import tensorstore as ts
from etils.epath.gpath import PosixGPath

from mmdiffusion_jax import errors

_SCHEMES = {"gs": "gcsfs", "s3": "s3fs"}
_BUCKET = re.compile(r"(gs|s3):/+([a-z0-9][a-z0-9._-]{1,220}[a-z0-9])(/+.*)?")
# Beyond what the libraries do by themselves: a put may fail five times and more in a row.
_ATTEMPTS = 8


@dataclass(frozen=True)
class Stat:
    """What a store knows of an object.

    Attributes:
        st_size: bytes.
        st_mtime: seconds since 1970, as the store has them; 0 where it does not say.
        st_mtime_ns: the same in nanoseconds.
        is_directory: whether it is a prefix of objects; Orbax asks.

    Example:
        >>> Stat(5, 1.5).st_mtime_ns
        1500000000
    """

    st_size: int
    st_mtime: float
    is_directory: bool = False

    @property
    def st_mtime_ns(self) -> int:  # noqa: D102
        return int(self.st_mtime * 1e9)


class BucketPath(PosixGPath):
    """A path in a bucket, with the methods of `pathlib.Path` that make sense there.

    A folder is a prefix of names: it needs no making, and is there while it has objects. A file is
    opened to read it; `files.replacing` writes.

    Example:
        >>> place = BucketPath("gs://runs/a") / "config.json"
        >>> str(place), place.name, str(place.parent)
        ('gs://runs/a/config.json', 'config.json', 'gs://runs/a')
    """

    def mkdir(self, mode: int | None = None, parents: bool = False, exist_ok: bool = False) -> None:
        """Nothing: and above all no new bucket."""

    def absolute(self) -> "BucketPath":
        """The path itself."""
        return self

    def resolve(self, strict: bool = False) -> "BucketPath":
        """The path without "." and "..", which lead no higher than the bucket."""
        scheme, _, rest = str(self).partition("://")
        bucket, _, inside = rest.partition("/")
        return BucketPath(f"{scheme}://{bucket}", posixpath.normpath(f"/{inside}").lstrip("/"))

    def is_file(self) -> bool:
        """Whether there is an object of this name."""
        return bool(store(self).isfile(str(self)))

    def glob(self, pattern: str) -> Iterator["BucketPath"]:
        """The paths that match, of objects and prefixes."""
        for path in store(self).glob(f"{self}/{pattern}"):
            yield self._of_store(path)

    def rglob(self, pattern: str) -> Iterator["BucketPath"]:
        """All objects below that match, which are files alone."""
        for path in self.objects():
            if path.match(pattern):
                yield path

    def objects(self) -> dict["BucketPath", dict[str, Any]]:
        """All objects below, with what the store says of each."""
        listed = store(self).find(str(self), detail=True)
        return {self._of_store(path): about for path, about in sorted(listed.items())}

    def stat(self) -> Stat:
        """Its size and the time of its last change."""
        about = store(self).info(str(self))
        changed = about.get("mtime") or about.get("LastModified")
        return Stat(
            about.get("size") or 0,
            changed.timestamp() if hasattr(changed, "timestamp") else 0.0,
            about.get("type") == "directory",
        )

    def _of_store(self, path: str) -> "BucketPath":
        return BucketPath(f"{str(self).partition('://')[0]}://{path}")


def is_bucket(text: str) -> bool:
    """Whether a path is meant to lie in a bucket that this package can write to.

    Example:
        >>> is_bucket("gs://runs/a"), is_bucket("/mnt/runs/a"), is_bucket("https://host/a")
        (True, False, False)
    """
    return text.partition(":")[0] in _SCHEMES and text.partition(":")[2].startswith("/")


def bucket_path(text: str, argument: str) -> BucketPath:
    """The path of a URL.

    Raises:
        ValueError: no name of a bucket, or the library of such a store is not installed.

    Example:
        >>> bucket_path("gs:///runs", "workdir")
        Traceback (most recent call last):
        ...
        ValueError: `workdir`: got 'gs:///runs', expected gs://BUCKET/FOLDER, with a bucket's ...
    """
    match = _BUCKET.fullmatch(text)
    scheme = text.partition(":")[0]
    if match is None or text.startswith(f"{scheme}:///"):
        raise errors.invalid(
            argument,
            repr(text),
            f"{scheme}://BUCKET/FOLDER, with a bucket's name in lower case",
            "name the bucket and a folder in it",
        )
    if importlib.util.find_spec(_SCHEMES[scheme]) is None:
        raise errors.invalid(
            argument,
            repr(text),
            f"a path of a mounted file system, as {_SCHEMES[scheme]} is not installed",
            "install the extra cloud: pip install 'mmdiffusion_jax[cloud]'",
        )
    _set_up()
    return BucketPath(f"{scheme}://{match[2]}{match[3] or ''}")


def store(path: BucketPath) -> Any:
    """The file system of fsspec that has a path."""
    return fsspec.filesystem(str(path).partition(":")[0])


def kvstore_spec(path: str | os.PathLike[str]) -> dict[str, Any]:
    """How TensorStore names a prefix in a bucket.

    For S3 the endpoint comes from `AWS_ENDPOINT_URL_S3` or `AWS_ENDPOINT_URL`, and the region from
    `AWS_REGION` or `AWS_DEFAULT_REGION`, as for every program of AWS.

    Example:
        >>> kvstore_spec("gs://runs/a/")
        {'driver': 'gcs', 'bucket': 'runs', 'path': 'a/'}
    """
    scheme, _, rest = os.fspath(path).partition("://")
    bucket, _, inside = rest.partition("/")
    if scheme == "gs":
        return {"driver": "gcs", "bucket": bucket, "path": inside}
    spec: dict[str, Any] = {"driver": "s3", "bucket": bucket, "path": inside}
    settings = {
        "endpoint": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
        "aws_region": ("AWS_REGION", "AWS_DEFAULT_REGION"),
    }
    for key, names in settings.items():
        value = next((os.environ[name] for name in names if os.environ.get(name)), None)
        if value:
            spec[key] = value
    if os.environ.get("AWS_ACCESS_KEY_ID"):
        # Or it looks for files first, and logs an error for each that is not there.
        spec["aws_credentials"] = {"type": "environment"}
    return spec


def open_kvstore(path: BucketPath) -> ts.KvStore:
    """The objects below a path, by TensorStore, which writes them on conditions."""
    return ts.KvStore.open(kvstore_spec(f"{path}/")).result()


def require_writable(folder: BucketPath, argument: str, shown: os.PathLike[str]) -> None:
    """Puts an object into a folder of a bucket, and deletes it.

    Raises:
        ValueError: one of the two fails; the error names `shown`.
    """
    probe = f"{folder}/.probe.{uuid.uuid4().hex}"
    try:
        store(folder).pipe_file(probe, b"0")
        store(folder).rm_file(probe)
    # What the libraries raise on a missing bucket or permission shares no type.
    except Exception as error:
        raise not_writable(shown, argument, error) from error


def not_writable(shown: os.PathLike[str], argument: str, error: Exception) -> ValueError:
    """What to raise where a store refused to write."""
    return errors.invalid(
        argument,
        f"{shown}, which cannot be written to ({reason(error)})",
        "a folder in a bucket that exists, where these credentials may write and delete",
        "make the bucket, or log in with others",
    )


def reason(error: BaseException) -> str:
    """Why a store refused, in a line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__


@functools.cache
def _set_up() -> None:
    """Has every library read and write buckets in the same way, before the first of them does."""
    # TensorFlow, where it is installed, would have epath go by another library.
    os.environ.setdefault("EPATH_USE_TF", "false")
    # What TensorStore and other processes write does not show in a listing that is kept.
    for scheme in ("gs", "gcs", "s3"):
        fsspec.config.conf.setdefault(scheme, {}).setdefault("use_listings_cache", False)
    retries = {"retries": {"mode": "standard", "max_attempts": _ATTEMPTS}}
    fsspec.config.conf["s3"].setdefault("config_kwargs", retries)
