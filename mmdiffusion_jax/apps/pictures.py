"""Writes samples on disk as pictures, one a file, with their captions."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from mmdiffusion_jax import experiment, files
from mmdiffusion_jax.apps.shards import Shards, open_shards
from mmdiffusion_jax.networks import MultiModalModel

# Samples that are turned into pictures at once.
_CHUNK = 250


def write_pictures(workdir: str, out: str | os.PathLike[str]) -> Path:
    """Writes the samples that `sample` has left in a folder as PNG files, one each.

    Returns:
        The folder `png` in it, see `draw_shards`.

    Raises:
        ValueError: no experiment in `workdir`, no samples in `out`, or a folder that cannot be
            written to.
    """
    built = experiment.build(experiment.read_config(files.to_path(workdir, "workdir")))
    shards = open_shards(files.to_path(out, "out"))
    files.writable_folder(shards.folder / "png", "out")
    return draw_shards(built.model, shards)


def draw_shards(model: MultiModalModel, shards: Shards) -> Path:
    """Writes `png/NAME/0000000K.png` for sample K of each modality NAME that is shown by a picture.

    Beside them, `png/samples-00000-of-000NN.jsonl` has a line a sample of each shard, such as
    `{"sample": 3, "image": "image/00003.png", "label": "7"}`: a picture by its file, anything else
    by its caption. It is written when the shard's pictures are there; called again, only what is
    missing is written. One shard is read at a time.

    Returns:
        The folder `png`, in that of the shards.

    Raises:
        OSError: a file cannot be read or written.
    """
    folder = shards.folder / "png"
    for name in model.modalities:
        files.remove_leftovers(folder / name)
    width = max(5, len(str(shards.num_samples - 1)))
    for index, shard in enumerate(shards):
        record = folder / shard.with_suffix(".jsonl").name
        rows = shards.rows(index)
        if _is_whole(record, rows):
            continue
        folder.mkdir(parents=True, exist_ok=True)
        lines = [
            json.dumps(_write_sample(folder, f"{number:0{width}d}", number, shown))
            for number, shown in zip(rows, _shown(model, shard), strict=True)
        ]
        files.write_text(record, "\n".join([*lines, ""]))
        logging.info("Pictures of shard %d of %d.", index + 1, len(shards))
    return folder


def _shown(model: MultiModalModel, shard: Path) -> Iterator[dict[str, np.ndarray | str]]:
    """{modality: picture or caption} of each sample of a shard."""
    with files.local_copy(shard) as copy, np.load(copy) as arrays:
        samples = {name: arrays[name] for name in arrays.files if name in model.modalities}
    for start in range(0, len(next(iter(samples.values()))), _CHUNK):
        part = {
            name: model.modalities[name].show(x[start : start + _CHUNK])
            for name, x in samples.items()
        }
        for row in zip(*part.values(), strict=True):
            yield dict(zip(part, row, strict=True))


def _write_sample(
    folder: Path, stem: str, number: int, shown: Mapping[str, np.ndarray | str]
) -> dict[str, Any]:
    line: dict[str, Any] = {"sample": number}
    for name, value in shown.items():
        if isinstance(value, str):
            line[name] = value
            continue
        line[name] = f"{name}/{stem}.png"
        file = folder / line[name]
        file.parent.mkdir(exist_ok=True)
        # `draw_shards` has removed unfinished files: looking for them reads the whole folder.
        files.write_png(file, np.ascontiguousarray(value), tidy=False)
    return line


def _is_whole(record: Path, rows: range) -> bool:
    """Whether the pictures of a shard are all there."""
    try:
        lines = [json.loads(line) for line in record.read_text(encoding="utf-8").splitlines()]
        places = [str(x) for line in lines for x in line.values() if str(x).endswith(".png")]
        numbers = [line["sample"] for line in lines]
    except FileNotFoundError:
        return False
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        logging.warning("%s is damaged and made anew: %s", record, error)
        return False
    return numbers == list(rows) and all((record.parent / place).is_file() for place in places)
