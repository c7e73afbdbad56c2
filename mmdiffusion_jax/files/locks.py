"""Holds a folder for one process, by the system's locks or by a lease in a bucket."""

import contextlib
import errno
import json
import os
import socket
from collections.abc import Iterator
from typing import IO

import filelock
from absl import logging

from mmdiffusion_jax.files.buckets import BucketPath
from mmdiffusion_jax.files.leases import holder_of, in_use, leased
from mmdiffusion_jax.files.places import to_path


@contextlib.contextmanager
def locked(folder: str | os.PathLike[str], argument: str) -> Iterator[None]:
    """Holds a folder for this process alone, by a lock on the file `lock` in it.

    The system gives the lock back when the process ends, however it ends; the file stays and says
    who had it last. Network file systems hold it between hosts if they support `flock`. Where the
    system has no locks, a warning says that the folder is not held. The folder must be there.

    In a bucket it is a lease, which `files.leases` describes.

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
    place = to_path(folder)
    if isinstance(place, BucketPath):
        with leased(place, argument):
            yield
        return
    path = place / "lock"
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
            raise in_use(folder, argument, _holder(stream))
        stream.truncate(0)
        stream.write(json.dumps({"process": os.getpid(), "host": socket.gethostname()}) + "\n")
        stream.flush()
        yield


def _holder(stream: IO[str]) -> str:
    try:
        stream.seek(0)
        return holder_of(stream.read())
    except OSError:
        # Windows does not let others read what is locked.
        return "another process"
