"""Writes many samples shard by shard, and goes on where a run stopped."""

import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from mmdiffusion_jax import data, errors, files

_REQUEST = "request.json"


@dataclasses.dataclass(frozen=True)
class Shards:
    """A sequence of files that hold many samples.

    Numbers have as many digits as their count, and at least five, so that names sort as numbers.

    Attributes:
        folder: where the files are.
        num_samples: in all files together.
        shard_size: samples a file; the last one has the rest.

    Raises:
        ValueError: fewer than 1 sample, in all or a shard.

    Example:
        >>> shards = Shards(Path("out"), num_samples=10**11, shard_size=5000)
        >>> len(shards), shards[3].name
        (20000000, 'samples-00000003-of-20000000.npz')
        >>> shards.rows(3)
        range(15000, 20000)
    """

    folder: Path
    num_samples: int
    shard_size: int

    def __post_init__(self) -> None:
        for name in ("num_samples", "shard_size"):
            value = getattr(self, name)
            if value < 1:
                raise errors.invalid(name, value, "1 or more", "raise it")

    def __len__(self) -> int:
        """How many files."""
        return -(-self.num_samples // self.shard_size)

    def __getitem__(self, index: int) -> Path:
        """The file of a number, from 0 on, or from the last one back if it is negative.

        Raises:
            IndexError: there is no such file.
        """
        count = len(self)
        width = max(5, len(str(count)))
        number = range(count)[index]
        return self.folder / f"samples-{number:0{width}d}-of-{count:0{width}d}.npz"

    def __iter__(self) -> Iterator[Path]:
        """The files, in order."""
        return (self[index] for index in range(len(self)))

    def rows(self, index: int) -> range:
        """The numbers of the samples in a file."""
        first = index * self.shard_size
        return range(first, min(first + self.shard_size, self.num_samples))


def write_shards(
    folder: str | os.PathLike[str],
    request: Mapping[str, Any],
    num_samples: int,
    shard_size: int,
    make: Callable[[int, int], Mapping[str, np.ndarray]],
) -> Shards:
    """Writes `samples-00000-of-000NN.npz`, … and beside them the request.

    A shard appears whole or not at all. Called again with the same request, only shards that are
    missing or damaged are made. One shard at a time is held in memory. Whether the folder can be
    written to is tried before the first shard is made.

    Args:
        folder: a new one, or one with a part of the same request.
        request: all that the samples depend on, in JSON's types.
        num_samples: how many samples in all.
        shard_size: samples a shard; the last one has the rest.
        make: (first, count) → {name: (count, …)}.

    Returns:
        The files, in order.

    Raises:
        ValueError: fewer than 1 sample, in all or a shard; a folder with anything else in it, or
            that cannot be written to. Nothing is written then, nor if the first call of `make`
            fails.

    Example:
        >>> import tempfile
        >>> calls = []
        >>> def make(first, count):
        ...     calls.append(first)
        ...     return {"x": np.arange(first, first + count)}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for _ in range(2):
        ...         shards = write_shards(folder, {"seed": 0}, 5, 2, make)
        ...     print(shards[2].name, np.load(shards[2])["x"], calls)
        samples-00002-of-00003.npz [4] [0, 2, 4]
    """
    folder = files.to_path(folder, "out")
    shards = Shards(folder, num_samples, shard_size)
    request = json.loads(json.dumps(request))
    _check_folder(folder, request)
    tried = False
    for index, file in enumerate(shards):
        rows = shards.rows(index)
        if _whole(file, len(rows)):
            continue
        if not tried:
            files.writable_folder(folder, "out")
            tried = True
        samples = make(rows.start, len(rows))
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / _REQUEST).exists():
            files.write_text(folder / _REQUEST, json.dumps(request, indent=2))
        with files.replacing(file) as stream:
            np.savez(stream, **samples)  # type: ignore[arg-type]
        logging.info("Shard %d of %d: %d samples.", index + 1, len(shards), rows.stop)
    return shards


def open_shards(folder: str | os.PathLike[str]) -> Shards:
    """The shards that `write_shards` has written into a folder.

    Raises:
        ValueError: there is no request in it, or some of the files are missing.

    Example:
        >>> open_shards("nowhere")
        Traceback (most recent call last):
        ...
        ValueError: `out`: got nowhere, which has no readable request.json, expected ...
    """
    folder = files.to_path(folder, "out")
    try:
        request = json.loads((folder / _REQUEST).read_text(encoding="utf-8"))
        shards = Shards(folder, request["num_samples"], request["shard_size"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise errors.invalid(
            "out",
            f"{folder}, which has no readable {_REQUEST}",
            "a folder of samples",
            "draw them first",
        ) from error
    missing = next((file.name for file in shards if not file.is_file()), None)
    if missing:
        raise errors.invalid(
            "out", f"{folder}, which lacks {missing}", "all samples", "draw them again to go on"
        )
    return shards


def _check_folder(folder: Path, request: Mapping[str, Any]) -> None:
    # A process that is killed over its first file leaves that alone.
    if not folder.exists() or (folder.is_dir() and all(map(files.is_unfinished, folder.iterdir()))):
        return
    try:
        stored = dict(json.loads((folder / _REQUEST).read_text(encoding="utf-8")))
        keys = sorted({*request, *stored})
        different = [key for key in keys if stored.get(key) != request.get(key)]
    except (OSError, ValueError, TypeError):
        different = [f"no readable {_REQUEST}"]
    if different:
        raise errors.invalid(
            "out",
            f"{folder}, which has something else in it ({', '.join(different)})",
            "a new folder, or one with a part of the same request",
            "choose another folder, or empty this one",
        )


def _whole(file: Path, size: int) -> bool:
    """Whether a shard is there and can be read."""
    if not file.exists():
        return False
    try:
        with files.local_copy(file) as copy:
            return len(data.open_npz(copy)) == size
    except ValueError as error:
        logging.warning("%s is damaged and made anew: %s", file, error)
        return False
