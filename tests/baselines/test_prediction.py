"""Prediction without noise: equal to a plain cross-entropy, and refused where it makes no sense."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from mmdiffusion_jax import baselines
from mmdiffusion_jax.model import (
    ModalityFunctions,
    ModelFunctions,
    Prediction,
    categorical_log_prob,
)


def model():
    table = jax.random.normal(jax.random.key(0), (3, 2))
    point = ModalityFunctions(encode=lambda x: x, log_prob=lambda mean, x: x[:, 0])
    kind = ModalityFunctions(encode=lambda k: table[k], log_prob=categorical_log_prob)
    return ModelFunctions(
        denoise=lambda z, t: Prediction(z, {"a": 2 * (z @ table.T), "b": z @ table.T}),
        modalities={"point": point, "a": kind, "b": kind},
        primary="point",
    ), table


def test_equals_torch_cross_entropy_over_what_is_present():
    functions, table = model()
    x = jax.random.normal(jax.random.key(1), (5, 2))
    batch = {"point": x, "a": jnp.arange(5) % 3, "b": jnp.array([2, 0, 1, 0, 2])}
    presence = {"a": jnp.array([1, 1, 0, 1, 1]), "b": jnp.array([1, 1, 1, 1, 0])}
    loss, metrics = baselines.prediction_loss_terms(
        functions, batch, presence, given=("point", "b"), target="a"
    ).reduce()
    rows = [0, 1, 3]
    logits = 2 * (np.asarray(x) + np.asarray(table)[batch["b"]]) @ np.asarray(table).T
    want = torch.nn.functional.cross_entropy(
        torch.tensor(logits[rows]), torch.tensor(np.asarray(batch["a"])[rows], dtype=torch.int64)
    )
    np.testing.assert_allclose(loss, want.numpy(), rtol=1e-5)
    assert metrics["a/loss"].value == loss


@pytest.mark.parametrize(
    ("given", "target", "words"),
    [
        ((), "a", "expected at least one given modality"),
        (("a",), "point", "a secondary as the target"),
        (("pint",), "a", "did you mean 'point'"),
        (("point",), "c", "got 'c'"),
    ],
)
def test_bad_requests(given, target, words):
    with pytest.raises(ValueError, match=words):
        baselines.predict(model()[0], {"point": jnp.zeros((1, 2))}, given, target)
