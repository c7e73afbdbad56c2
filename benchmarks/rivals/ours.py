"""This library's joint model, as the config says."""

import dataclasses
from typing import Any

import jax
import numpy as np

from benchmarks.rivals.job import GIVEN, JOINT, Job, arms_of, job_of, versions_of
from benchmarks.speed.worker import Arms
from mmdiffusion_jax import data, experiment


class Ours:
    """The experiment's own model, step and sampler."""

    directions = (JOINT, *GIVEN)

    def __init__(self, job: Job) -> None:
        self._built = job.experiment()
        mesh, split, _ = experiment.share_batch(self._built)
        self._step, self._state = experiment.make_step_and_state(self._built, mesh)
        size = self._built.training.batch_size
        source = data.ArraySource(job.columns())
        batches = data.train_batches(source, batch_size=size, seed=self._built.seed)
        self._batches = data.to_device(batches, split, size)
        self._generators = {
            calls: self._built.generator(dataclasses.replace(self._built.sampling, num_steps=calls))
            for calls in job.calls
        }

    @property
    def num_parameters(self) -> int:
        """How many parameters it trains."""
        return sum(leaf.size for leaf in jax.tree.leaves(self._state.params))

    @property
    def versions(self) -> str:
        """Its libraries with their versions."""
        return versions_of("jax", "flax")

    def train(self, count: int) -> None:
        """Takes so many steps."""
        for _ in range(count):
            self._state, _ = self._step(self._state, next(self._batches))
        jax.block_until_ready(self._state)

    def draw(self, direction: str, calls: int, given: dict[str, np.ndarray], count: int) -> Any:
        """Samples of the averaged parameters."""
        key = jax.random.key(self._built.evaluation.seed)
        key = jax.random.fold_in(key, self.directions.index(direction))
        return self._generators[calls](key, self._state.ema, count, given)


def arms(**options: Any) -> Arms:
    """The arms of our process."""
    job = job_of(options)
    return arms_of(Ours(job), job)
