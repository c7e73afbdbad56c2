"""Many samples on disk: written shard by shard, resumed where a run stopped."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from mmdiffusion_jax import data, errors, files

_REQUEST = "request.json"


def write_shards(
    folder: str | os.PathLike[str],
    request: Mapping[str, Any],
    num_samples: int,
    shard_size: int,
    make: Callable[[int, int], Mapping[str, np.ndarray]],
) -> list[Path]:
    """Writes `samples-00000-of-000NN.npz`, … and beside them the request they answer.

    A shard appears whole or not at all. Called again with the same request, what is there is kept;
    shards that are missing or damaged are made. Only one shard is held in memory.

    Args:
        folder: a new one, or one with a part of the same request.
        request: all that the samples depend on, in JSON's types.
        num_samples: how many samples in all.
        shard_size: samples a shard; the last one has the rest.
        make: (first, count) → {name: (count, …)}.

    Returns:
        The files, in order.

    Raises:
        ValueError: fewer than 1 sample, in all or a shard; a folder with anything else in it.
            Nothing is written then, nor if the first call of `make` fails.

    Example:
        >>> import tempfile
        >>> made = []
        >>> def make(first, count):
        ...     made.append(first)
        ...     return {"x": np.arange(first, first + count)}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for _ in range(2):
        ...         paths = write_shards(folder, {"seed": 0}, 5, 2, make)
        ...     print(paths[2].name, np.load(paths[2])["x"], made)
        samples-00002-of-00003.npz [4] [0, 2, 4]
    """
    for name, value in (("num_samples", num_samples), ("shard_size", shard_size)):
        if value < 1:
            raise ValueError(errors.message(name, value, "1 or more", "raise it"))
    folder = Path(folder)
    request = json.loads(json.dumps(request))
    _check_folder(folder, request)
    count = -(-num_samples // shard_size)
    paths = [folder / f"samples-{index:05d}-of-{count:05d}.npz" for index in range(count)]
    for index, file in enumerate(paths):
        first = index * shard_size
        size = min(shard_size, num_samples - first)
        if _whole(file, size):
            continue
        samples = make(first, size)
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / _REQUEST).exists():
            files.write_text(folder / _REQUEST, json.dumps(request, indent=2))
        with files.replacing(file) as stream:
            np.savez(stream, **samples)  # type: ignore[arg-type]
        logging.info("Shard %d of %d: %d samples.", index + 1, count, first + size)
    return paths


def _check_folder(folder: Path, request: Mapping[str, Any]) -> None:
    # One killed over its very first file has left nothing but that.
    if not folder.exists() or (folder.is_dir() and all(map(files.is_unfinished, folder.iterdir()))):
        return
    try:
        there = dict(json.loads((folder / _REQUEST).read_text(encoding="utf-8")))
        different = sorted(key for key in {*request, *there} if there.get(key) != request.get(key))
    except (OSError, ValueError, TypeError):
        different = [f"no readable {_REQUEST}"]
    if different:
        raise ValueError(
            errors.message(
                "out",
                f"{folder}, which has something else in it ({', '.join(different)})",
                "a new folder, or one with a part of the same request",
                "choose another folder, or empty this one",
            )
        )


def _whole(file: Path, size: int) -> bool:
    """Whether a shard is there and can be read."""
    if not file.exists():
        return False
    try:
        return len(data.open_npz(file)) == size
    except ValueError as error:
        logging.warning("%s is damaged and made anew: %s", file, error)
        return False
