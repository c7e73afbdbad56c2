"""The likelihoods of decoder heads against SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from mmdiffusion_jax.model import (
    categorical_log_prob,
    discretised_gaussian_log_prob,
    gaussian_log_prob,
)


def test_categorical_against_scipy():
    rng = np.random.default_rng(0)
    logits, classes = rng.normal(size=(4, 3, 5)), rng.integers(0, 5, size=(4, 3))
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    want = [
        sum(stats.multinomial.logpmf(np.eye(5)[k], 1, q) for k, q in zip(row, ps, strict=True))
        for row, ps in zip(classes, p, strict=True)
    ]
    got = categorical_log_prob(jnp.asarray(logits, jnp.float32), jnp.asarray(classes))
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_gaussian_against_scipy():
    rng = np.random.default_rng(1)
    mean, log_std, x = (rng.normal(size=(3, 4)).astype(np.float32) for _ in range(3))
    want = stats.norm.logpdf(x, mean, np.exp(log_std)).sum(1)
    got = gaussian_log_prob(jnp.asarray(mean), jnp.asarray(log_std), jnp.asarray(x))
    np.testing.assert_allclose(got, want, rtol=1e-5)


@pytest.mark.parametrize("num_levels", [2, 17, 256])
@pytest.mark.parametrize("log_std", [-4.0, -1.0, 1.0])
def test_discretised_gaussian_against_scipy(num_levels, log_std):
    with jax.enable_x64(True):
        centres = np.linspace(-1, 1, num_levels)
        mean, std, half = 0.3, np.exp(log_std), 1 / (num_levels - 1)
        edges = np.concatenate([[-np.inf], centres[:-1] + half, [np.inf]])
        cdf, survival = stats.norm.cdf(edges, mean, std), stats.norm.sf(edges, mean, std)
        mass = np.where(edges[:-1] < mean, np.diff(cdf), -np.diff(survival))
        got = discretised_gaussian_log_prob(
            jnp.full((num_levels, 1), mean),
            jnp.full((num_levels, 1), log_std),
            jnp.asarray(centres)[:, None],
            num_levels,
        )
        assert abs(np.exp(got).sum() - 1) < 1e-9
        kept = mass > 1e-250
        np.testing.assert_allclose(got[kept], np.log(mass[kept]), rtol=1e-6, atol=1e-9)


def test_discretised_gaussian_is_finite_in_float32():
    def total(parameters):
        x = jnp.linspace(-1, 1, 256).reshape(-1, 1)
        mean, log_std = (jnp.broadcast_to(p, x.shape) for p in parameters)
        return discretised_gaussian_log_prob(mean, log_std, x, 256).sum()

    for mean in (-1.0, 0.0, 0.4, 1.0):
        for log_std in (-7.0, -2.0, 2.0, 5.0):
            value, gradient = jax.value_and_grad(total)((jnp.float32(mean), jnp.float32(log_std)))
            assert np.isfinite(value), (mean, log_std)
            assert np.isfinite(np.asarray(gradient)).all(), (mean, log_std)


def test_classes_are_integers():
    with pytest.raises(ValueError, match=r"`classes`: got .* of float32"):
        categorical_log_prob(jnp.ones((1, 3)), jnp.ones((1,)))


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.uint8])
def test_a_class_out_of_range_makes_the_result_not_a_number(dtype):
    """−1 is not the last class; a variable that is not counted may hold anything."""
    rng = np.random.default_rng(2)
    logits = jnp.asarray(rng.normal(size=(4, 3, 5)), jnp.float32)
    classes = np.array([[0, 4, 2], [0, 5, 2], [1, 2, 3], [4, 4, 4]], dtype)
    if np.issubdtype(dtype, np.signedinteger):
        classes[2, 0], classes[3, 2] = -1, -5
    right = ((classes >= 0) & (classes < 5)).all(axis=1)
    got = jax.jit(categorical_log_prob)(logits, classes)
    np.testing.assert_array_equal(np.isfinite(got), right)
    assert np.isnan(np.asarray(got)[~right]).all()

    known = (classes >= 0) & (classes < 5)

    def total(logits):
        return categorical_log_prob(logits, classes, known).sum()

    log_probs = np.asarray(jax.nn.log_softmax(logits))
    want = sum(log_probs[*place, classes[place]] for place in zip(*np.nonzero(known), strict=True))
    value, gradient = jax.value_and_grad(total)(logits)
    np.testing.assert_allclose(value, want, rtol=1e-5)
    assert np.isfinite(np.asarray(gradient)).all()
    assert not np.asarray(gradient)[~known].any()


@pytest.mark.parametrize("num_levels", [2, 17, 256])
def test_numbers_of_levels_are_refused_with_the_line_that_turns_them_into_values(num_levels):
    numbers = jnp.arange(num_levels, dtype=jnp.uint8).reshape(1, -1)
    mean = jnp.full(numbers.shape, 0.3)
    with pytest.raises(ValueError, match=r"`x`: got an array .* uint8, expected .*\[−1, 1\]") as e:
        discretised_gaussian_log_prob(mean, mean - 1, numbers, num_levels)
    line = str(e.value).rpartition(" by ")[2].rstrip(".")
    x = eval(line, {"x": numbers, "jnp": jnp})
    np.testing.assert_allclose(x[0], np.linspace(-1, 1, num_levels), atol=1e-6)
    assert np.isfinite(discretised_gaussian_log_prob(mean, mean - 1, x, num_levels)).all()


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.float32])
def test_numbers_of_levels_are_refused_by_their_range_too(dtype):
    numbers, mean = jnp.array([[0, 128, 255]], dtype), jnp.zeros((1, 3))
    with pytest.raises(ValueError, match=r"`x`: got .* expected values on the levels in \[−1, 1\]"):
        discretised_gaussian_log_prob(mean, mean, numbers, 256)


def test_signed_whole_numbers_may_be_levels():
    """−1 and 1 are the two levels, and −1, 0 and 1 the three."""
    mean, x = jnp.zeros((1, 3)), jnp.array([[-1, 0, 1]])
    got = discretised_gaussian_log_prob(mean, mean, x, 3)
    half = stats.norm.cdf(-0.5)
    np.testing.assert_allclose(got[0], np.log([half, 1 - 2 * half, half]).sum(), rtol=1e-5)
