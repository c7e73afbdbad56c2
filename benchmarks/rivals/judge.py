"""The figures of samples, by the same judges for all contenders."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.rivals.job import (
    GIVEN,
    IMAGE,
    JOINT,
    LABEL,
    given_column,
    samples_file,
    write_arrays,
)
from mmdiffusion_jax import data, errors, evaluation, experiment, files
from mmdiffusion_jax.evaluation import Figure, RealData
from mmdiffusion_jax.evaluation.conditional import conditional_figures
from mmdiffusion_jax.evaluation.joint import joint_figures

# Samples that a picture shows.
_SHEET = 40


def check_modalities(built: experiment.Experiment) -> None:
    """Checks that an experiment is one of an image and a label, which the rivals are made for.

    Raises:
        ValueError: other modalities, or other names.
    """
    modalities: Mapping[str, Any] = built.settings.modalities
    kinds = {name: fields["kind"] for name, fields in modalities.items()}
    if kinds != {IMAGE: "image", LABEL: "label"} or built.model.primary != IMAGE:
        raise errors.invalid(
            "config.modalities",
            f"{kinds} with the primary {built.model.primary!r}",
            "an image 'image', which is the primary, and a label 'label'",
            "choose a config such as configs/digits.py or configs/image_label.py:small",
        )


def write_data(file: Path, train: data.Source, real: RealData, count: int) -> None:
    """Writes what contenders train on, and the values that are given to conditional samples.

    Those are the first test images, and each class in turn, so many at most.
    """
    columns = data.select(train.take(np.arange(len(train))), (IMAGE, LABEL))
    columns |= {
        given_column(IMAGE): real.test[IMAGE][:count],
        given_column(LABEL): _classes(real, count),
    }
    write_arrays(file, columns)


def figures_of(real: RealData, folder: Path, directions: Mapping[str, int]) -> list[Figure]:
    """The figures of a run's samples, of each direction that it drew with so many calls."""
    return [
        figure
        for direction, calls in directions.items()
        for figure in _of_direction(real, direction, _read(folder, direction, calls))
    ]


def _of_direction(
    real: RealData, direction: str, samples: Mapping[str, np.ndarray]
) -> Iterator[Figure]:
    if direction == JOINT:
        return joint_figures(real, samples)
    source = GIVEN[direction]
    drawn = {name: x for name, x in samples.items() if name != source}
    count = len(next(iter(drawn.values())))
    truth = {column: x[:count] for column, x in real.test.items()}
    if source == LABEL:
        truth = {LABEL: _classes(real, count)}
    return conditional_figures(real, source, drawn, truth)


def draw_sheet(built: experiment.Experiment, folder: Path, calls: int) -> None:
    """Draws the first joint samples of a run into `joint-<calls>.png`."""
    samples = {name: x[:_SHEET] for name, x in _read(folder, JOINT, calls).items()}
    sheet = evaluation.contact_sheet(built.model, samples)
    files.write_png(folder / f"{JOINT}-{calls}.png", sheet)


def _classes(real: RealData, count: int) -> np.ndarray:
    return (np.arange(count) % real.modalities[LABEL].num_labels).astype(np.int32)


def _read(folder: Path, direction: str, calls: int) -> dict[str, np.ndarray]:
    with np.load(samples_file(folder, direction, calls)) as arrays:
        return {name: arrays[name] for name in arrays.files}
