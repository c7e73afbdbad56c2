"""Thresholds against the same formulas in NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest

from mmdiffusion_jax import sampling
from mmdiffusion_jax.model import CleanState, NoisyState, Prediction

Z_0 = np.float32(np.random.default_rng(0).normal(size=(5, 4, 3)) * np.arange(1, 6)[:, None, None])


def thresholded(decorate):
    """ẑ_0 of a decorated denoiser, after a check that nothing else changed."""
    t, z_t, noise, variances = (jnp.full(2, x) for x in range(4))
    clean, prediction = CleanState(jnp.asarray(Z_0), {"x": jnp.ones(2)}), Prediction(z_t, {})
    state = NoisyState(t, z_t, clean, noise, prediction, {"x": variances})
    got = decorate(lambda t, z_t, roles: state, None)(t, z_t, None)
    assert got.clean.encodings is clean.encodings
    for part in ("t", "z_t", "noise", "prediction", "encoding_variances"):
        assert getattr(got, part) is getattr(state, part)
    return got.clean.z_0


def test_static():
    got = thresholded(sampling.static_threshold(-0.5, 2.0))
    np.testing.assert_array_equal(got, np.clip(Z_0, -0.5, 2.0))


@pytest.mark.parametrize("quantile", [0.5, 0.9, 1.0])
@pytest.mark.parametrize("bound", [1.0, 3.0])
def test_dynamic(quantile, bound):
    limit = np.quantile(np.abs(Z_0), quantile, axis=(1, 2), keepdims=True)
    limit = np.maximum(limit, bound)
    got = thresholded(sampling.dynamic_threshold(quantile, bound))
    np.testing.assert_allclose(got, np.clip(Z_0, -limit, limit) * bound / limit, rtol=1e-5)
    assert np.abs(got).max() <= bound * (1 + 1e-6)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: sampling.static_threshold(1.0, -1.0), r"`low, high`: got \(1.0, -1.0\)"),
        (lambda: sampling.static_threshold(1.0, 1.0), "expected low < high"),
        (lambda: sampling.dynamic_threshold(0.0), "`quantile`: got 0.0"),
        (lambda: sampling.dynamic_threshold(1.1), "`quantile`: got 1.1"),
        (lambda: sampling.dynamic_threshold(0.9, 0.0), "`bound`: got 0.0"),
    ],
)
def test_bad_input(build, words):
    with pytest.raises(ValueError, match=words):
        build()
