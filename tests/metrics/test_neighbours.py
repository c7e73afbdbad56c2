"""Neighbour metrics against loops over pairs, and what they are made to tell apart."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from mmdiffusion_jax import metrics

RNG = np.random.default_rng(0)
REAL, GENERATED = RNG.normal(size=(40, 4)), RNG.normal(0.7, 0.8, size=(31, 4))


def radius(x, k):
    return np.array([sorted(cdist(x[[i]], np.delete(x, i, 0))[0])[k - 1] for i in range(len(x))])


@pytest.mark.parametrize("k", [1, 3])
def test_against_pairs(k):
    distances = cdist(REAL, GENERATED)
    in_real = distances <= radius(REAL, k)[:, None]
    in_generated = distances <= radius(GENERATED, k)[None]
    want = (np.mean(in_real.any(axis=0)), np.mean(in_generated.any(axis=1)))
    np.testing.assert_allclose(metrics.precision_recall(REAL, GENERATED, k=k), want)
    want = (in_real.sum() / (k * len(GENERATED)), np.mean(in_real.any(axis=1)))
    np.testing.assert_allclose(metrics.density_coverage(REAL, GENERATED, k=k), want)


def test_one_mode_of_two_is_precise_and_recalls_half():
    real = np.concatenate([RNG.normal(size=(200, 2)), RNG.normal(size=(200, 2)) + 50])
    generated = RNG.normal(size=(400, 2))
    precision, recall = metrics.precision_recall(real, generated)
    assert precision > 0.9
    assert 0.4 < recall <= 0.5
    density, coverage = metrics.density_coverage(real, generated)
    assert 0.8 < density < 1.2
    assert 0.4 < coverage <= 0.5


def test_copies_of_the_real_examples_reach_every_neighbour():
    """The bounds are included, whatever rounding makes of the distances."""
    x = RNG.normal(size=(300, 8))
    counts = (cdist(x, x) <= radius(x, 1)[:, None] * (1 + 1e-9)).sum(axis=1)
    assert metrics.density_coverage(x, x.copy(), k=1) == (np.mean(counts), 1.0)


def test_far_from_the_origin():
    shifted = metrics.precision_recall(REAL + 1e6, GENERATED + 1e6)
    np.testing.assert_allclose(shifted, metrics.precision_recall(REAL, GENERATED))


@pytest.mark.parametrize("metric", [metrics.precision_recall, metrics.density_coverage])
@pytest.mark.parametrize(
    ("real", "k", "words"),
    [
        (REAL, 0, "`k`: got 0"),
        (REAL[:3], 3, r"`real`: got shape \(3, 4\), expected .* 4 rows or more"),
        (REAL[:, :3], 3, "`generated`: got 4 features, expected 3, as real has"),
    ],
)
def test_bad_sets(metric, real, k, words):
    with pytest.raises(ValueError, match=words):
        metric(real, GENERATED, k=k)
