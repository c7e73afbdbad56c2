"""Paths as Orbax takes them, in buckets too.

Orbax knows gs:// by itself. A checkpoint on s3:// it would hand to a driver for disks, although
TensorStore has a driver of S3: here it learns to treat both alike. There is no public way to say
so, and what it is told by its private names is looked for before it is replaced.
"""

import functools
import os
from pathlib import Path

from orbax.checkpoint._src.path import gcs_utils
from orbax.checkpoint._src.serialization import tensorstore_utils

from mmdiffusion_jax import errors, files
from mmdiffusion_jax.files.buckets import kvstore_spec

_NAMES = (
    (gcs_utils, "_GCS_PATH_PREFIX"),
    (gcs_utils, "get_kvstore_for_gcs"),
    (tensorstore_utils, "_use_gcs_driver"),
    (tensorstore_utils, "_normalize_path"),
)
_BUCKETS = ("gs://", "s3://")


def for_orbax(path: str | os.PathLike[str]) -> Path:
    """An absolute path of a disk, or one in a bucket that Orbax then can write to.

    Raises:
        ValueError: a path on s3:// with a version of Orbax that cannot be told of it.

    Example:
        >>> for_orbax("checkpoints").is_absolute(), str(for_orbax("gs://runs/a/checkpoints"))
        (True, 'gs://runs/a/checkpoints')
    """
    place = files.to_path(path)
    if str(place).startswith("s3://"):
        _teach_s3(str(place))
    return place.absolute()


@functools.cache
def _teach_s3(place: str) -> None:
    if gcs_utils._GCS_PATH_PREFIX == _BUCKETS:
        return
    if not all(hasattr(module, name) for module, name in _NAMES):
        raise errors.invalid(
            "workdir",
            place,
            "gs:// or a mounted file system, as this version of orbax-checkpoint has no S3",
            "install the version that constraints.txt names",
        )
    of_gcs, normal = gcs_utils.get_kvstore_for_gcs, tensorstore_utils._normalize_path

    def kvstore(path: str) -> dict[str, str]:
        return kvstore_spec(path) if path.startswith("s3://") else of_gcs(path)

    def normalised(path: str) -> str:
        path = normal(path)
        return path.replace("s3:/", "s3://", 1) if path.startswith("s3:/") else path

    gcs_utils._GCS_PATH_PREFIX = _BUCKETS
    gcs_utils.get_kvstore_for_gcs = kvstore
    tensorstore_utils._use_gcs_driver = lambda directory: directory.startswith(_BUCKETS)
    tensorstore_utils._normalize_path = normalised
