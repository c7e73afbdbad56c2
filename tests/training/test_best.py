"""The checkpoint with the best evaluation, where a run goes on by another metric."""

import jax.numpy as jnp
import pytest

from mmdiffusion_jax.training import Checkpoints, TrainingOptions
from mmdiffusion_jax.training.best import BestCheckpoint


def offer(folder, metric, values):
    with BestCheckpoint(folder, TrainingOptions(best_metric=metric)) as best:
        for step, value in values.items():
            best.offer(step, {"w": jnp.full(2, step)}, {metric: value}, {})


@pytest.mark.parametrize("step", [4, 6, 8])
def test_another_metric_begins_anew(tmp_path, step):
    """A run may go on from a step before the one that was best by the former metric."""
    offer(tmp_path, "loss", {2: 0.5, 6: 0.1})
    offer(tmp_path, "image/loss", {step: 0.9})
    with Checkpoints(tmp_path, read_only=True) as kept:
        assert kept.steps() == [step]
        assert kept.newest_position() == (step, {"metric": "image/loss", "value": 0.9})


def test_the_same_metric_goes_on(tmp_path):
    offer(tmp_path, "loss", {2: 0.5, 6: 0.1})
    offer(tmp_path, "loss", {4: 0.05, 6: 0.1, 8: 0.2})
    with Checkpoints(tmp_path, read_only=True) as kept:
        assert kept.steps() == [6]
