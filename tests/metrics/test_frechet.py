"""The Fréchet distance against SciPy's matrix root and closed forms."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from mmdiffusion_jax import metrics


def test_frechet_against_the_matrix_root():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(200, 5)) @ rng.normal(size=(5, 5)), rng.normal(size=(150, 5)) + 1
    cx, cy = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    want = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(cx + cy - 2 * sqrtm(cx @ cy).real)
    assert abs(metrics.frechet_distance(x, y) - want) < 1e-8
    assert abs(metrics.frechet_distance(y, x) - want) < 1e-8
    streamed = metrics.MomentStatistics.empty(5).update(x[:7]).update(x[7:])
    assert abs(metrics.frechet_distance(streamed, y) - want) < 1e-8


def test_frechet_of_singular_sets():
    rng = np.random.default_rng(1)
    x = np.hstack([rng.normal(size=(50, 2)), np.zeros((50, 3))])
    assert metrics.frechet_distance(x, x) < 1e-9
    scaled = metrics.frechet_distance(x, 2 * x)
    want = x.mean(0) @ x.mean(0) + np.trace(np.cov(x, rowvar=False))
    assert abs(scaled - want) < 1e-9


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (np.zeros(3), r"shape \(3,\)"),
        (np.zeros((1, 3)), r"shape \(1, 3\)"),
        (np.full((3, 3), np.nan), "not finite"),
        (np.zeros((3, 4)), "got 4 features, expected 3"),
        (metrics.MomentStatistics.empty(4).update(np.zeros((2, 4))), "got 4 features, expected 3"),
        (metrics.MomentStatistics.empty(3), "got 0 examples"),
    ],
)
def test_bad_features(x, words):
    with pytest.raises(ValueError, match=words):
        metrics.frechet_distance(np.zeros((3, 3)), x)
