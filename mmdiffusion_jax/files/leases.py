"""A lock in a bucket, as a lease that its holder renews while it lives.

The lock is an object that only a conditional put makes or changes, so of two that try at the same
time one fails. Its holder changes it every few seconds. No clocks of two machines are compared: who
wants a folder whose lock does not change for the whole time of a lease takes it over, and who has
not renewed its own for most of that time has to renew it before it writes again.
"""

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorstore as ts
from absl import logging

from mmdiffusion_jax import errors
from mmdiffusion_jax.files.buckets import BucketPath, not_writable, open_kvstore, require_writable

SECONDS = 60.0
"""How long a lease lasts without being renewed."""

_NAME = "lock"
_held: dict[str, "_Lease"] = {}
_tokens: set[str] = set()  # of this process, also of those that it is about to take


class LeaseLostError(OSError):
    """Another process has taken over a folder in a bucket that this one was writing to."""


@contextlib.contextmanager
def leased(folder: BucketPath, argument: str) -> Iterator[None]:
    """Holds a folder in a bucket for this process alone.

    The lease of a process that has ended on this machine is taken over at once; that of another
    machine once it has not been renewed for its whole time.

    Raises:
        ValueError: another process holds it, or the bucket cannot be written to.
    """
    lease = _Lease(folder, argument)
    _tokens.add(lease.token)
    try:
        lease.take()
        _held[str(folder)] = lease
        try:
            yield
        finally:
            del _held[str(folder)]
            lease.release()
    finally:
        _tokens.remove(lease.token)


def require_held(path: str | os.PathLike[str]) -> None:
    """Checks that a file may be written: the lease on a folder above it, if there is one, holds.

    Raises:
        LeaseLostError: this process had a lease on the folder and has lost it.

    Example:
        >>> require_held("gs://runs/a/config.json")  # nothing holds this folder here
    """
    place = os.fspath(path)
    for folder, lease in list(_held.items()):
        if place == folder or place.startswith(f"{folder}/"):
            lease.require()


class _Lease:
    """The lock of one folder; a thread renews it."""

    def __init__(self, folder: BucketPath, argument: str) -> None:
        self._folder, self._argument = folder, argument
        self._seconds = SECONDS
        self.token = uuid.uuid4().hex
        self._about = {
            "process": os.getpid(),
            "host": socket.gethostname(),
            "machine": _machine(),
            "token": self.token,
            "seconds": self._seconds,
        }
        self._turn, self._generation = 0, b""
        self._renewed = -float("inf")
        self._lost = False
        self._busy, self._done = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    def take(self) -> None:
        """Waits until the lease is ours, or is seen to be that of a living process."""
        # TensorStore takes a bucket that is not there for a condition that is not met.
        require_writable(self._folder, self._argument, self._folder)
        try:
            self._store = open_kvstore(self._folder)
            holder = self._wait_and_put()
        # What the stores raise on a missing bucket or permission shares no type.
        except Exception as error:
            raise not_writable(self._folder, self._argument, error) from error
        if holder is not None:
            raise in_use(self._folder, self._argument, holder)
        self._thread.start()

    def require(self) -> None:
        """Returns if the lease is ours for a while, renewing it if its end is near."""
        with self._busy:
            if not self._lost and time.monotonic() - self._renewed > 0.6 * self._seconds:
                self._renew()
            if self._lost:
                raise LeaseLostError(
                    f"{self._folder} was taken over by {self._holder()}, because this process did "
                    f"not renew its lease for {self._seconds:.0f} seconds; nothing more is written "
                    "here: stop one of the two"
                )

    def release(self) -> None:
        """Gives the folder back, if it is still ours."""
        self._done.set()
        self._thread.join()
        if not self._lost:
            with contextlib.suppress(Exception):
                self._store.write(_NAME, None, if_equal=self._generation).result()

    def _wait_and_put(self) -> str | None:
        """Writes the lock once it is free; or the name of who lives and holds it."""
        seen, since = None, 0.0
        while True:
            read = self._store.read(_NAME).result()
            generation = _missing() if read.state == "missing" else read.stamp.generation
            about = _parsed(read.value)
            wait = float(about.get("seconds", self._seconds))
            if about.get("token") in _tokens:
                return _named(about)
            if read.state == "missing" or _has_ended(about):
                free = True
            elif seen is None:
                free, seen, since = False, generation, time.monotonic()
                words = "%s is held by %s; waiting up to %.0f s to see whether that lives."
                logging.info(words, self._folder, _named(about), wait)
            elif generation != seen:
                return _named(about)
            else:
                free = time.monotonic() - since > wait
            if free and self._put(generation):
                return None
            time.sleep(min(1.0, wait / 20))

    def _keep(self) -> None:
        while not self._done.wait(self._seconds / 4):
            with self._busy:
                if self._lost:
                    return
                try:
                    self._renew()
                except Exception as error:
                    logging.warning("The lease on %s was not renewed: %s", self._folder, error)

    def _renew(self) -> None:
        if self._put(self._generation):
            return
        # An own write may have come through although its answer was lost.
        read = self._store.read(_NAME).result()
        is_own = _parsed(read.value).get("token") == self.token
        if not is_own or not self._put(read.stamp.generation):
            self._lost = True
            logging.error("The lease on %s is lost to %s.", self._folder, self._holder())

    def _put(self, condition: bytes) -> bool:
        """Writes the lock if it is as last seen; whether it was."""
        self._turn += 1
        began = time.monotonic()
        value = json.dumps({**self._about, "turn": self._turn}).encode()
        self._store.write(_NAME, value, if_equal=condition).result()
        # A write that was tried twice fails the second time although the first has come through.
        read = self._store.read(_NAME).result()
        if read.value != value:
            return False
        self._generation, self._renewed = read.stamp.generation, began
        return True

    def _holder(self) -> str:
        try:
            return holder_of(self._store.read(_NAME).result().value)
        except Exception:
            return "another process"


def _missing() -> bytes:
    """The generation that stands for no object."""
    memory = ts.KvStore.open({"driver": "memory"}).result()
    return memory.read(_NAME).result().stamp.generation


def in_use(folder: str | os.PathLike[str], argument: str, holder: str) -> ValueError:
    """What to raise where another process holds a folder."""
    return errors.invalid(
        argument,
        f"{folder}, which {holder} is writing to",
        "a folder of its own for every run at a time",
        "wait for that one, stop it, or choose another folder",
    )


def holder_of(lock: str | bytes) -> str:
    """Who has written a lock."""
    return _named(_parsed(lock))


def _parsed(value: str | bytes) -> dict[str, Any]:
    try:
        about = json.loads(value)
    except ValueError:
        return {}
    return about if isinstance(about, dict) else {}


def _named(about: dict[str, Any]) -> str:
    if "process" not in about or "host" not in about:
        return "another process"
    return f"process {about['process']} on {about['host']}"


def _machine() -> str:
    """What says that two processes count alike: a start of the system and a space of numbers.

    Containers may share the name of their host and number their processes by themselves.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _has_ended(about: dict[str, Any]) -> bool:
    """Whether a lock is that of a process of this machine that is no more."""
    machine = _machine()
    if not machine or about.get("machine") != machine:
        return False
    if not isinstance(about.get("process"), int):
        return False
    try:
        os.kill(about["process"], 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    # Numbers are given again: this one is ours, so it was another's.
    return bool(about["process"] == os.getpid() and about.get("token") not in _tokens)
