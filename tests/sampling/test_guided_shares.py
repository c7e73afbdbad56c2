"""Guidance of a model whose z_0 has shares of several encodings, against Gaussian conditioning."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdiffusion_jax import sampling
from mmdiffusion_jax.model import query_roles
from tests.linear_world import DIMS, LinearWorld

STEPS = 40
TIMES = jnp.asarray([2, 10, 20, 35])
SHARES = {"p": 2.0, "x0": 1.0, "x1": 0.5}
X0 = np.random.default_rng(1).normal(size=(len(TIMES), DIMS))
STATES = np.random.default_rng(0).normal(size=(len(TIMES), DIMS))


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def estimated(world, decorator, left_out=()):
    """E(p) as samplers read it from the guided denoiser, with x0 given."""
    diffusion, x0 = world.diffusion(), jnp.asarray(X0)
    code = {"x0": diffusion.model.modalities["x0"].encode(x0)}
    query = sampling.Query(diffusion, {"x0": x0}, code)
    denoiser = sampling.with_given(decorator(sampling.plain_denoiser(query), query), query)
    names = diffusion.model.modalities
    roles = query_roles(names, len(TIMES), ["x0"], set(names) - set(left_out))
    clean = denoiser(TIMES, jnp.asarray(STATES), roles).clean
    np.testing.assert_array_equal(clean.encodings["x0"], code["x0"])
    return diffusion.model.primary_encoding(clean.z_0, clean.encodings)


def conditional_mean(world, carried, z_t, known=None):
    """E[p | z_t], and where x0 is known E[p | z_t, x0], of states that carry these bits."""
    means = []
    for t, z, x in zip(np.asarray(TIMES), np.asarray(z_t), np.asarray(X0), strict=True):
        rows, values = [world.by_carried[carried][0][t]], [z]
        noise = [float(world.schedule.noise_variance[t])] * DIMS
        if known is not None:
            rows.append(np.eye(len(world.mean))[DIMS : 2 * DIMS])
            values.append(x)
            noise += [0.0] * DIMS
        rows, values = np.concatenate(rows), np.concatenate(values)
        inside = rows @ world.covariance @ rows.T + np.diag(noise)
        gain = np.linalg.solve(inside, rows @ world.covariance).T
        means.append((world.mean + gain @ (values - rows @ world.mean))[:DIMS])
    return np.stack(means)


@pytest.mark.parametrize("count", [1, 2])
def test_bayes_term_of_a_given_modality(count):
    """Exact where no other modality is estimated, so of two the other one is left out."""
    world = LinearWorld(count, STEPS, shares=dict(list(SHARES.items())[: count + 1]))
    got = estimated(world, sampling.decoder_guidance(), left_out=["x1"])
    exact = conditional_mean(world, 2**count + 1, STATES, known="x0")
    np.testing.assert_allclose(got, exact, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("count", [1, 2])
def test_classifier_free_guidance_of_scale_zero_takes_the_share_out_too(count):
    world = LinearWorld(count, STEPS, shares=dict(list(SHARES.items())[: count + 1]))
    got = estimated(world, sampling.classifier_free_guidance("x0", 0.0))
    weight = np.asarray(world.process.weights.marginal["x0"])[np.asarray(TIMES)]
    weight = weight + world.shares["x0"] * np.sqrt(world.schedule.alpha_bar)[np.asarray(TIMES)]
    less = STATES - weight[:, None] * (X0 @ world.encoders[0].T)
    without = 2 ** (count + 1) - 2
    np.testing.assert_allclose(got, conditional_mean(world, without, less), rtol=1e-4, atol=1e-5)


def test_autoguidance_of_scale_zero_is_the_weaker_models_primary():
    world, weak = (LinearWorld(2, STEPS, seed=seed, shares=SHARES) for seed in (0, 3))
    weaker = dataclasses.replace(world.diffusion(), model=weak.model())
    got = estimated(world, sampling.autoguidance(weaker, 0.0))
    np.testing.assert_allclose(got, conditional_mean(weak, 7, STATES), rtol=1e-4, atol=1e-5)
