"""The inception score against divergences computed by SciPy."""

import numpy as np
import pytest
from scipy.stats import entropy

from mmdiffusion_jax import metrics

P = np.random.default_rng(0).dirichlet(np.full(5, 0.3), 43)


@pytest.mark.parametrize("num_splits", [1, 4])
def test_against_divergences(num_splits):
    scores = []
    for i in range(num_splits):
        part = P[i * 43 // num_splits : (i + 1) * 43 // num_splits]
        scores.append(np.exp(np.mean([entropy(p, part.mean(axis=0)) for p in part])))
    got = metrics.inception_score(P, num_splits=num_splits, seed=None)
    np.testing.assert_allclose(got, (np.mean(scores), np.std(scores)), atol=1e-12)


def test_its_ends():
    certain = np.repeat(np.eye(4), 5, axis=0)
    np.testing.assert_allclose(metrics.inception_score(certain, num_splits=1)[0], 4)
    np.testing.assert_allclose(metrics.inception_score(np.tile(P[:1], (20, 1)))[0], 1)


def test_seeds_shuffle():
    assert metrics.inception_score(P, seed=0) == metrics.inception_score(P, seed=0)
    assert metrics.inception_score(P, seed=0) != metrics.inception_score(P, seed=1)


@pytest.mark.parametrize(
    ("p", "num_splits", "words"),
    [
        (P, 0, "`num_splits`: got 0"),
        (P, 44, r"got 44, expected 1 … 43"),
        (np.log(P), 1, "pass probabilities, not logits"),
    ],
)
def test_bad_requests(p, num_splits, words):
    with pytest.raises(ValueError, match=words):
        metrics.inception_score(p, num_splits=num_splits)
