"""What every contender is given, and what it gives back: one process for each run.

A contender is a class that takes a `Job`. Its process has the interpreter that its library needs;
data go to it and samples come back as `.npz` files.
"""

import dataclasses
import importlib.metadata
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from benchmarks.speed.worker import Arms
from mmdiffusion_jax import experiment, files

JOINT, IMAGE_GIVEN_LABEL, LABEL_GIVEN_IMAGE = "joint", "image_given_label", "label_given_image"

GIVEN: Mapping[str, str] = {IMAGE_GIVEN_LABEL: "label", LABEL_GIVEN_IMAGE: "image"}
"""Which modality is given in a direction."""

IMAGE, LABEL = "image", "label"


@dataclasses.dataclass(frozen=True)
class Job:
    """One run of one contender.

    Attributes:
        config: our experiment with the run's seed and number of steps, as JSON has it.
        data: an `.npz` file with the training columns `image` and `label`, and with what is given
            to conditional samples, `given_image` and `given_label`.
        folder: gets the samples.
        num_parameters: how many our model has; a rival takes as many, as near as it can.
        calls: of the network for a sample, each of which is tried.
    """

    config: Mapping[str, Any]
    data: str
    folder: str
    num_parameters: int
    calls: tuple[int, ...]

    def experiment(self) -> experiment.Experiment:
        """Our experiment, whose options of training hold for all."""
        return experiment.build(experiment.config_of(self.config))

    def columns(self) -> dict[str, np.ndarray]:
        """The training split, {"image": (n, …) uint8, "label": (n,) int32}."""
        with np.load(self.data) as arrays:
            return {name: arrays[name] for name in (IMAGE, LABEL)}

    def given(self, direction: str) -> dict[str, np.ndarray]:
        """{name: (n, …)} of what is given in a direction; empty for joint samples."""
        if direction not in GIVEN:
            return {}
        name = GIVEN[direction]
        with np.load(self.data) as arrays:
            return {name: arrays[given_column(name)]}


class Contender(Protocol):
    """A model that is trained and sampled from; its class takes a `Job`."""

    @property
    def num_parameters(self) -> int:
        """How many parameters it trains."""

    @property
    def directions(self) -> tuple[str, ...]:
        """What it can generate."""

    @property
    def versions(self) -> str:
        """Its libraries with their versions."""

    def train(self, count: int) -> None:
        """Takes so many steps, and has ended them when it returns."""

    def draw(self, direction: str, calls: int, given: dict[str, np.ndarray], count: int) -> Any:
        """{name: (count, …)} in data units, from so many calls of the network for each sample."""


def arms_of(contender: Contender, job: Job) -> Arms:
    """What the process of a contender does when it is told to.

    "train" takes steps, "size" tells the number of parameters and "versions" those of its
    libraries; "<direction>-<calls>" draws the first samples of a direction into the file of
    `samples_file`.
    """

    def drawing(direction: str, calls: int) -> Any:
        def draw(count: int) -> None:
            given = {name: x[:count] for name, x in job.given(direction).items()}
            samples = contender.draw(direction, calls, given, count)
            write_arrays(samples_file(job.folder, direction, calls), samples)

        return draw

    draws = {
        arm_name(direction, calls): drawing(direction, calls)
        for direction in contender.directions
        for calls in job.calls
    }
    return {
        "train": contender.train,
        "size": lambda _: contender.num_parameters,
        "versions": lambda _: contender.versions,
        **draws,
    }


def versions_of(*packages: str) -> str:
    """Names and versions of installed packages.

    Example:
        >>> versions_of("numpy").startswith("numpy ")
        True
    """
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)


def arm_name(direction: str, calls: int) -> str:
    """The arm that draws samples of a direction.

    Example:
        >>> arm_name(JOINT, 15)
        'joint-15'
    """
    return f"{direction}-{calls}"


def given_column(name: str) -> str:
    """The name of a given modality's values among the data."""
    return f"given_{name}"


def write_arrays(file: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes an `.npz` file, whole or not at all."""
    with files.replacing(file) as stream:
        np.savez(stream, **dict[str, Any](arrays))


def samples_file(folder: str | os.PathLike[str], direction: str, calls: int) -> Path:
    """Where the samples of a direction are."""
    return Path(folder) / f"{arm_name(direction, calls)}.npz"


def job_of(options: Mapping[str, Any]) -> Job:
    """The job in the options of a process, where JSON has lists for tuples."""
    return Job(**{**options, "calls": tuple(options["calls"])})
