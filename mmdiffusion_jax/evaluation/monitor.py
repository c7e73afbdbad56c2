"""Evaluates a model while it trains: losses on held-out examples, and a picture of samples."""

from typing import Any

import jax
import numpy as np

from mmdiffusion_jax import data, errors, training
from mmdiffusion_jax.evaluation.likelihood import loss_names, loss_on
from mmdiffusion_jax.evaluation.sheet import contact_sheet
from mmdiffusion_jax.experiment import Experiment

_SHEET = 100


def monitor(
    experiment: Experiment, held_out: data.Source, profile: tuple[int, int] | None = None
) -> training.Monitor:
    """The losses by `loss_on`, and a `contact_sheet` of 100 samples with the experiment's seed.

    Args:
        experiment: what is trained.
        held_out: examples that are not trained on, such as `experiment.Splits.validation`.
        profile: (first, last) step to record, or None.

    Raises:
        ValueError: a `training.best_metric` that the evaluation of these examples will not have.
    """
    metric = experiment.training.best_metric
    if metric and metric not in (names := loss_names(experiment, held_out)):
        raise errors.unknown(
            "training.best_metric", metric, names, "the evaluation while training has these"
        )

    def picture(params: Any) -> np.ndarray:
        # A network that only predicts does so from examples.
        shown = experiment.formulation.predicts_from
        rows = data.rows_with(held_out, shown, _SHEET)
        given = {name: x for name, x in held_out.take(rows).items() if name in shown}
        samples = experiment.generate(jax.random.key(experiment.seed), params, len(rows), given)
        return contact_sheet(experiment.model, samples)

    return training.Monitor(loss_on(experiment, held_out), picture, profile)
