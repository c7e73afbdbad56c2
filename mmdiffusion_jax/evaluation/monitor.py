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
    experiment: Experiment, test: data.Source, profile: tuple[int, int] | None = None
) -> training.Monitor:
    """The losses by `loss_on`, and a `contact_sheet` of 100 samples with the experiment's seed.

    Raises:
        ValueError: a `training.best_metric` that the evaluation of this test split will not have.
    """
    metric = experiment.training.best_metric
    if metric and metric not in (names := loss_names(experiment, test)):
        raise errors.unknown(
            "training.best_metric", metric, names, "the evaluation on the test split has these"
        )

    def picture(params: Any) -> np.ndarray:
        # A network that only predicts does so from test examples.
        shown = experiment.formulation.predicts_from
        rows = data.rows_with(test, shown, _SHEET)
        given = {name: x for name, x in test.take(rows).items() if name in shown}
        samples = experiment.generate(jax.random.key(experiment.seed), params, len(rows), given)
        return contact_sheet(experiment.model, samples)

    return training.Monitor(loss_on(experiment, test), picture, profile)
