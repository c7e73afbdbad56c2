"""Sampling with separate states against a joint Gaussian world."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdiffusion_jax import baselines, process, sampling
from tests.gaussian_pair import CORRELATION, optimal_model

SCHEDULE = process.cosine_schedule(100)
COUNT = 20_000


@pytest.fixture(scope="module")
def draw():
    model = optimal_model(SCHEDULE)

    def run(key, given):
        return baselines.sample_separate(
            key, SCHEDULE, model, (COUNT, 1), given, sampling.Method(sampling.DPMSolverPP())
        )

    return jax.jit(run)


def test_joint_moments(draw):
    samples = draw(jax.random.key(0), {})
    both = np.concatenate([samples["x"], samples["y"]], axis=1)
    np.testing.assert_allclose(both.mean(0), 0, atol=0.03)
    want = [[1, CORRELATION], [CORRELATION, 1]]
    np.testing.assert_allclose(np.cov(both, rowvar=False), want, atol=0.04)


def test_the_primary_given_the_other(draw):
    y = jnp.linspace(-2, 2, COUNT)[:, None]
    samples = draw(jax.random.key(1), {"y": y})
    assert samples["y"] is y or bool((samples["y"] == y).all())
    rest = np.asarray(samples["x"] - CORRELATION * y)
    np.testing.assert_allclose(rest.mean(), 0, atol=0.02)
    np.testing.assert_allclose(rest.var(), 1 - CORRELATION**2, atol=0.02)
    assert abs(np.corrcoef(rest[:, 0], y[:, 0])[0, 1]) < 0.02


def test_the_other_given_the_primary(draw):
    x = jnp.linspace(-2, 2, COUNT)[:, None]
    samples = draw(jax.random.key(2), {"x": x})
    np.testing.assert_allclose(samples["y"], CORRELATION * x, atol=0.03)


def test_samples_do_not_depend_on_their_batch():
    model = optimal_model(SCHEDULE)
    keys = jax.random.split(jax.random.key(3), 4)
    times = sampling.uniform_grid(SCHEDULE, 5)
    run = jax.jit(
        lambda keys: baselines.sample_separate(
            keys, SCHEDULE, model, (keys.shape[0], 1), method=sampling.Method(times=times)
        )
    )
    np.testing.assert_allclose(run(keys)["x"][2:], run(keys[2:])["x"], rtol=1e-5)


def test_bad_requests():
    model = optimal_model(SCHEDULE)
    for given, words in (
        ({"z": jnp.zeros((2, 1))}, "`given`: got 'z'"),
        ({"x": jnp.zeros((3, 1))}, r"got shape \(3, 1\), expected 2 examples"),
        ({"x": jnp.zeros((2, 1)), "y": jnp.zeros((2, 1))}, "one modality left to generate"),
    ):
        with pytest.raises(ValueError, match=words):
            baselines.sample_separate(jax.random.key(0), SCHEDULE, model, (2, 1), given)
