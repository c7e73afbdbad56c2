"""Faults at a named point, chosen from outside: what a run calls is made to kill or to fail it."""

import atexit
import contextlib
import gc
import itertools
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np

from mmdiffusion_jax import training
from mmdiffusion_jax.data import pipeline
from mmdiffusion_jax.training import digests, speed, writers

_UNCOMMITTED = ".orbax-checkpoint-tmp"


def _kill():
    os.kill(os.getpid(), signal.SIGKILL)


def _at_call(owner, name, count, chosen=lambda *_: True, first=None, fault=_kill):
    """Has the fault at the count-th chosen call of a function, after `first` is done."""
    original, calls = getattr(owner, name), itertools.count(1)

    def called(*arguments, **options):
        if chosen(*arguments) and next(calls) == count:
            if first is not None:
                first(original, *arguments, **options)
            fault()
        return original(*arguments, **options)

    setattr(owner, name, called)


def _whole(original, *arguments, **options):
    original(*arguments, **options)


def _commits(folder):
    return lambda src, dst, **_: str(src).endswith(_UNCOMMITTED) and Path(dst).parent.name == folder


def _replaces(folder, ending=""):
    return lambda src, dst, **_: Path(dst).parent.name == folder and Path(dst).name.endswith(ending)


def _half_of_the_new(original, src, dst, **options):
    file = Path(src)
    os.truncate(file, file.stat().st_size // 2)


def _half_of_the_folder(original, folder, *arguments, **options):
    for file in sorted(path for path in Path(folder).rglob("*") if path.is_file())[::2]:
        file.unlink()


def _half_a_line(original, writer, step, metrics):
    writer._lines._stream.write(f'{{"step": {step}, "train/lo')
    writer._lines._stream.flush()


def _half_a_file(original, stream, **arrays):
    original(stream, **arrays)
    stream.truncate(stream.tell() // 2)
    stream.flush()


POINTS = {
    "in a step": lambda n: _at_call(speed.Stopwatch, "count", n),
    "in a line of metrics": lambda n: _at_call(
        writers.MetricWriter, "write", n, first=_half_a_line
    ),
    "while metrics are cut": lambda n: _at_call(
        os, "replace", n, lambda src, dst, **_: Path(dst).name == "metrics.jsonl"
    ),
    "in a picture": lambda n: _at_call(
        os, "replace", n, _replaces("samples", ".png"), _half_of_the_new
    ),
    "between two items of a checkpoint": lambda n: _at_call(
        os, "rename", n, lambda src, dst, **_: Path(dst).name == "state"
    ),
    "before a commit": lambda n: _at_call(os, "rename", n, _commits("checkpoints")),
    "after a commit": lambda n: _at_call(os, "rename", n, _commits("checkpoints"), _whole),
    "before the best is committed": lambda n: _at_call(os, "rename", n, _commits("best")),
    "after the best is committed": lambda n: _at_call(os, "rename", n, _commits("best"), _whole),
    "before a digest": lambda n: _at_call(digests, "seal", n),
    "in a digest": lambda n: _at_call(
        os, "replace", n, _replaces("digests", ".json"), _half_of_the_new
    ),
    "while a step is deleted": lambda n: _at_call(
        shutil,
        "rmtree",
        n,
        lambda path, *_: Path(path).parent.name == "checkpoints",
        _half_of_the_folder,
    ),
    "while a damaged step is moved": lambda n: _at_call(
        os, "rename", n, lambda src, dst, **_: Path(dst).parent.name == "damaged", _whole
    ),
}
"""{point: what has to be called in the process that is to die there for the n-th time}."""


SAMPLING_POINTS = {
    "in the request": lambda n: _at_call(
        os, "replace", n, lambda src, dst, **_: Path(dst).name == "request.json", _half_of_the_new
    ),
    "in a shard": lambda n: _at_call(np, "savez", n, first=_half_a_file),
    "between two shards": lambda n: _at_call(
        os, "replace", n, lambda src, dst, **_: Path(dst).suffix == ".npz", _whole
    ),
    "before a shard has its name": lambda n: _at_call(
        os, "replace", n, lambda src, dst, **_: Path(dst).suffix == ".npz"
    ),
}
"""The same for what writes samples."""


def die(point, count=1):
    """Has this process die at a point, the count-th time it comes by."""
    (POINTS | SAMPLING_POINTS)[point](count)


def terminate(step):
    """Has this process get a SIGTERM in a step."""
    _at_call(speed.Stopwatch, "count", step, fault=lambda: os.kill(os.getpid(), signal.SIGTERM))


def terminate_before_training():
    """Has this process get a SIGTERM while it gets ready."""
    _at_call(training, "create_state", 1, fault=lambda: os.kill(os.getpid(), signal.SIGTERM))


def terminate_in_the_garbage_collector():
    """Has this process get a SIGTERM where nothing can be raised, while it gets ready."""

    def collect():
        gc.callbacks.append(terminate_once)
        gc.collect()

    def terminate_once(*_):
        gc.callbacks.remove(terminate_once)
        signal.raise_signal(signal.SIGTERM)

    _at_call(training, "create_state", 1, fault=collect)


def terminate_where_all_is_caught():
    """Has this process get a SIGTERM while it gets ready, in a clause that catches every error."""

    def caught():
        with contextlib.suppress(BaseException):
            signal.raise_signal(signal.SIGTERM)

    _at_call(training, "create_state", 1, fault=caught)


def terminate_at_the_end():
    """Has this process get a SIGTERM when all is done, while Python ends."""
    atexit.register(os.kill, os.getpid(), signal.SIGTERM)


def stand_still(step):
    """Has this process wait forever in a step."""
    _at_call(speed.Stopwatch, "count", step, fault=lambda: time.sleep(1e6))


def fail_reading(error, number):
    """Has the batch of this number, from 1, fail to be read, whichever thread comes to it."""
    true = pipeline._Batches.__getitem__

    def read(batches, index):
        if index == number - 1:
            raise error
        return true(batches, index)

    pipeline._Batches.__getitem__ = read


def fill_the_disk_of_metrics(count):
    """Has the count-th line of metrics go to a device that is always full."""

    def full(original, writer, step, metrics):
        writer._lines._file = Path("/dev/full")
        writer._lines._stream = writer._lines._file.open("a")

    _at_call(writers.MetricWriter, "write", count, first=full, fault=lambda: None)


def shift_the_clock(seconds):
    """Has this process believe in another time of day."""
    for name, unit in (("time", 1), ("time_ns", 10**9)):
        true = getattr(time, name)
        setattr(time, name, lambda true=true, unit=unit: true() + seconds * unit)
