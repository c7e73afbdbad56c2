"""What is absent enters neither a value nor a gradient, whatever stands in its place in a batch."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdiffusion_jax import baselines, objective
from mmdiffusion_jax.model import (
    Diffusion,
    ModalityFunctions,
    Prediction,
    encode,
    observe,
    training_roles,
)
from mmdiffusion_jax.model.absence import without_absent
from tests import plain_model

PROCESS = plain_model.PROCESS
KEY = jax.random.key(0)
X = plain_model.batch(6)["x"]
COUNTS = jnp.array([3, 0, 1, 7, 2, 4], jnp.int32)
PLACEHOLDERS = {"below the range": -1.0, "far above it": 1e6, "not a number": jnp.nan, "∞": jnp.inf}
PRESENCES = {
    "some": {"y": jnp.array([1.0, 0, 1, 1, 0, 1])},
    "none": {"y": jnp.zeros(6)},
    "the first is absent": {"y": jnp.array([0.0, 1, 1, 1, 1, 1])},
}
PARAMS = {"noise": jnp.array(0.3), "rate": jnp.array([0.1, -0.2]), "encoder": jnp.array(0.7)}


def counts(params):
    """A Poisson count, whose likelihood and encoding are not finite outside of its range."""

    def log_prob(log_rate, x):
        log_p = jax.scipy.stats.poisson.logpmf(x[:, 0], jnp.exp(log_rate.sum(1)))
        # As SciPy's is −∞ out of the range, with the gradient of ∞ · 0.
        return log_p + params["encoder"] * jnp.log1p(x[:, 0].astype(jnp.float32))

    return ModalityFunctions(
        encode=lambda x: params["encoder"] * jnp.log1p(jnp.repeat(x, 2, 1).astype(jnp.float32)),
        log_prob=log_prob,
        expected_encoding=lambda log_rate: jnp.tanh(log_rate),
    )


def shared(params):
    def denoise(z_t, t):
        return Prediction(
            params["noise"] * z_t, {"y": params["rate"][None] * z_t}, jax.nn.sigmoid(z_t)
        )

    return plain_model.shared(denoise, counts(params), variance="learned")


def diffusion_of(params):
    return Diffusion(PROCESS, shared(params))


def separate(params):
    def denoise(states, times):
        return Prediction(params["noise"] * states["x"], {"y": params["rate"][None] * states["y"]})

    return plain_model.separate(denoise, counts(params))


def of_terms(params, batch, presence):
    """The public parts, put together by hand."""
    model = shared(params)
    diffusion = Diffusion(PROCESS, model)
    roles = training_roles(model, batch, presence)
    clean, roles = encode(model, batch, roles)
    t = jnp.array([1, 2, 3, 4, 5, 6])
    state = observe(diffusion, clean, roles, t, X)
    terms = objective.recovery_terms(model, batch, roles, state)
    terms["L0"] = objective.prior_term(PROCESS, clean)
    terms["L1"] = objective.posterior_term(diffusion, clean, state)
    terms["L3"] = objective.reconstruction_term(model, batch, roles, state)
    return terms


LOSSES = {
    "simple": lambda p, b, m: objective.simple_loss(
        KEY,
        diffusion_of(p),
        b,
        m,
        options=objective.LossOptions(modality_scales={"x": 1.0}, dropout={"y": 0.3}),
    ),
    "bound loss": lambda p, b, m: objective.bound_loss(KEY, diffusion_of(p), b, m),
    "bound": lambda p, b, m: objective.bound(KEY, diffusion_of(p), b, m),
    "bound at": lambda p, b, m: objective.bound_at(
        jnp.array([1, 2, 3, 4, 5, 6]), X, diffusion_of(p), b, m
    ),
    "estimate": lambda p, b, m: objective.bound_estimate(KEY, diffusion_of(p), b, m),
    "flow": lambda p, b, m: objective.flow_bound(KEY, diffusion_of(p), b, m),
    "scoring": lambda p, b, m: objective.candidate_log_probs(
        KEY, diffusion_of(p), b, "x", X[:2], times=[1, 4], presence=m
    ),
    "prediction of it": lambda p, b, m: baselines.prediction_loss_terms(
        shared(p), b, m, given=["x"], target="y"
    ).reduce(),
    "separate": lambda p, b, m: baselines.separate_loss_terms(
        KEY, PROCESS.schedule, separate(p), b, m, objective.LossOptions({"x": 1.0})
    ).reduce(),
    "terms": of_terms,
}


@functools.cache
def value_and_gradient(loss):
    """Every number that comes out, and the gradient of their sum by parameters and x."""

    def summed(params, x, batch, presence):
        out = LOSSES[loss](params, {**batch, "x": x}, presence)
        return sum(leaf.sum() for leaf in jax.tree.leaves(out)), out

    return jax.jit(jax.value_and_grad(summed, argnums=(0, 1), has_aux=True))


@pytest.mark.parametrize("loss", LOSSES)
def test_placeholders_leave_values_and_gradients_as_they_are(loss):
    for presence in PRESENCES.values():
        absent = presence["y"] == 0
        results = []
        for placeholder in (1.0, *PLACEHOLDERS.values()):
            y = jnp.where(absent, placeholder, COUNTS.astype(jnp.float32))
            batch = {"y": y[:, None]}
            results.append(value_and_gradient(loss)(PARAMS, X, batch, presence))
        assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(results[0]))
        for other in results[1:]:
            jax.tree.map(np.testing.assert_array_equal, results[0], other)


def test_an_absent_primary():
    presence = {"x": jnp.array([1.0, 0, 1, 0, 0, 1])}
    batch = {"y": COUNTS[:, None].astype(jnp.float32)}
    results = []
    for placeholder in (0.0, jnp.nan, jnp.inf):
        x = jnp.where(presence["x"][:, None] > 0, X, placeholder)
        (value, out), (gradient, _) = value_and_gradient("simple")(PARAMS, x, batch, presence)
        results.append((value, out, gradient))
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(results[0]))
    for other in results[1:]:
        jax.tree.map(np.testing.assert_array_equal, results[0], other)


def test_the_present_examples_count_as_if_they_were_alone():
    """For a loss that is no more than a mean: the same value and gradient as without the others."""
    rows = jnp.array([0, 2, 3, 5])
    presence = {"y": PRESENCES["some"]["y"], "x": PRESENCES["some"]["y"]}
    y = jnp.where(presence["y"] > 0, COUNTS, -1)[:, None].astype(jnp.float32)
    whole = value_and_gradient("prediction of it")(PARAMS, X, {"y": y}, presence)
    ones = {"x": jnp.ones(4), "y": jnp.ones(4)}
    alone = value_and_gradient("prediction of it")(PARAMS, X[rows], {"y": y[rows]}, ones)
    np.testing.assert_allclose(whole[0][0], alone[0][0], rtol=1e-6)
    for name in PARAMS:
        np.testing.assert_allclose(whole[1][0][name], alone[1][0][name], rtol=1e-5)


def test_the_loss_of_what_is_present_but_impossible_is_not_hidden():
    """−log p of a count of −1 is infinite: only absence excuses it."""
    y = COUNTS.at[0].set(-1)[:, None].astype(jnp.float32)
    value = value_and_gradient("simple")(PARAMS, X, {"y": y}, PRESENCES["some"])[0][0]
    assert not jnp.isfinite(value)


@pytest.mark.parametrize("kind", ["int32", "uint8", "bool", "float32", "bfloat16"])
def test_what_stands_in_is_a_value_of_the_data(kind):
    x = jnp.array([[0, 1], [1, 0], [1, 1]]).astype(kind)
    mask = jnp.array([0.0, 1.0, 1.0])
    got = without_absent(mask, x)
    assert got.dtype == x.dtype
    np.testing.assert_array_equal(got, x[jnp.array([1, 1, 2])])


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (jnp.array([0.5] * 6), r"`presence\['y'\]`: got values from 0.5 to 0.5, expected 0 or 1"),
        (jnp.array([jnp.nan] * 6), r"`presence\['y'\]`: got values from nan"),
        (jnp.ones((6, 1)), r"`presence\['y'\]`: got shape \(6, 1\), expected shape \(6,\)"),
        ("all", r"`presence\['y'\]`: got 'all'"),
    ],
)
def test_masks_that_are_none(mask, words):
    batch = {"x": X, "y": COUNTS[:, None].astype(jnp.float32)}
    with pytest.raises(ValueError, match=words):
        objective.simple_loss(KEY, diffusion_of(PARAMS), batch, {"y": mask})
