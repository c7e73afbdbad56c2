"""Losses per dimension, where a modality says how many it has and where it does not."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from mmdiffusion_jax import baselines, objective, process, sampling
from mmdiffusion_jax.model import (
    Diffusion,
    ModalityFunctions,
    ModelFunctions,
    Prediction,
    categorical_log_prob,
    gaussian_log_prob,
)

NUM, CLASSES = 7, 5
X = jax.random.normal(jax.random.key(0), (NUM, 2))
GRID = jax.random.normal(jax.random.key(1), (NUM, 2, 3))
BATCH = {"x": X, "grid": GRID, "label": jnp.arange(NUM) % CLASSES}
SCHEDULE = process.cosine_schedule(6)
WEIGHTS = process.modality_weights(SCHEDULE, {"grid": "bump", "label": "bump"}, given="marginal")
CODES = jax.random.normal(jax.random.key(2), (CLASSES, 2))


def unit_gaussian(mean, x):
    return gaussian_log_prob(mean, jnp.zeros_like(mean), x)


def modalities(**num_dims):
    functions = {
        "x": ModalityFunctions(encode=lambda x: x, log_prob=unit_gaussian),
        "grid": ModalityFunctions(
            encode=lambda x: x.mean(axis=2),
            log_prob=unit_gaussian,
            expected_encoding=lambda mean: mean.mean(axis=2),
        ),
        "label": ModalityFunctions(
            encode=lambda k: CODES[k],
            log_prob=categorical_log_prob,
            expected_encoding=lambda logits: jax.nn.softmax(logits) @ CODES,
        ),
    }
    said = {n: dataclasses.replace(functions[n], num_dims=dims) for n, dims in num_dims.items()}
    return {**functions, **said}


# Heads that know nothing: a standard normal for each number, and evenly likely classes.
HEADS = {"grid": jnp.zeros_like(GRID), "label": jnp.zeros((NUM, CLASSES))}


def diffusion(**num_dims):
    def denoise(z_t, t):
        return Prediction(jnp.zeros_like(z_t), HEADS)

    model = ModelFunctions(denoise, modalities(**num_dims), "x")
    return Diffusion(process.Process(SCHEDULE, WEIGHTS), model)


def separate_loss(**num_dims):
    functions = baselines.SeparateFunctions(
        lambda z, t: Prediction(jnp.zeros_like(z["x"]), HEADS), modalities(**num_dims), "x"
    )
    terms = baselines.separate_loss_terms(jax.random.key(0), SCHEDULE, functions, BATCH)
    return {name: term.values for name, term in terms.terms.items()}


def simple_loss(**num_dims):
    terms = objective.simple_loss_terms(jax.random.key(0), diffusion(**num_dims), BATCH)
    return {name: term.values for name, term in terms.terms.items()}


@pytest.mark.parametrize("loss", [simple_loss, separate_loss])
def test_a_loss_is_a_mean_over_the_numbers_of_x(loss):
    terms = loss()
    nats = -stats.norm.logpdf(np.asarray(GRID)).reshape(NUM, 6)
    np.testing.assert_allclose(terms["grid/loss"], nats.mean(axis=1), rtol=1e-5)
    np.testing.assert_allclose(terms["label/loss"], np.full(NUM, np.log(CLASSES)), rtol=1e-5)
    # What the modality says itself counts.
    said = loss(grid=4)
    np.testing.assert_allclose(said["grid/loss"], nats.sum(axis=1) / 4, rtol=1e-5)


def test_a_prediction_is_a_mean_over_the_numbers_of_x():
    terms = baselines.prediction_loss_terms(
        diffusion().model, BATCH, given=["x"], target="grid"
    ).terms
    nats = -stats.norm.logpdf(np.asarray(GRID)).reshape(NUM, 6)
    np.testing.assert_allclose(terms["grid/loss"].values, nats.mean(axis=1), rtol=1e-5)


def test_the_loss_of_the_bound_is_per_dimension_of_all():
    key = jax.random.key(3)
    for num_dims, whole in (({}, 2 + 6 + 1), ({"grid": 4}, 2 + 4 + 1)):
        loss, _ = objective.bound_loss(key, diffusion(**num_dims), BATCH)
        total = objective.bound_estimate(key, diffusion(), BATCH).total
        np.testing.assert_allclose(loss, total.mean() / whole, rtol=1e-5)


def test_lists_have_dimensions_too():
    lists = {name: np.asarray(x).tolist() for name, x in BATCH.items()}
    terms = objective.simple_loss_terms(jax.random.key(0), diffusion(), lists).terms
    np.testing.assert_allclose(terms["grid/loss"].values, simple_loss()["grid/loss"], rtol=1e-6)


def test_an_order_takes_what_is_left_out_for_one():
    def first(**num_dims):
        before = {
            name: dataclasses.replace(each, drawn="before")
            for name, each in modalities(**num_dims).items()
        }
        model = ModelFunctions(
            lambda z_t, t, roles: None, before, "x", sees_roles=True, shows=tuple(before)
        )
        return sampling.order.stages_of(model, given=[], order=None)[0]

    assert first(grid=6) == ("label",)
    assert first(label=6) == ("grid",)
    assert first() == ("grid",)


def test_bits_per_dimension_need_a_number():
    terms = objective.bound(jax.random.key(0), diffusion(), BATCH)
    functions = diffusion().model.modalities
    dims = sum(each.dims_of(BATCH[name]) for name, each in functions.items())
    np.testing.assert_allclose(terms.bits_per_dim(dims), terms.total / (9 * np.log(2)), rtol=1e-6)
    with pytest.raises(ValueError, match="`num_dims`: got None, expected 1 or more; count X's"):
        terms.bits_per_dim(functions["grid"].num_dims)
