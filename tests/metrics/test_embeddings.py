"""Cosines of pairs and of all strangers against SciPy's table of distances."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from mmdiffusion_jax import metrics

X, Y = np.random.default_rng(0).normal(size=(2, 12, 4)) + 0.3


def test_against_all_pairs():
    table = 1 - cdist(X, Y, "cosine")
    paired, strangers = metrics.CosineStatistics.empty(4).update(X, Y).compute()
    np.testing.assert_allclose(paired, np.diag(table).mean())
    np.testing.assert_allclose(strangers, table[~np.eye(12, dtype=bool)].mean())
    np.testing.assert_allclose(metrics.cosine_similarity(X, Y), np.diag(table))


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (X, Y[:5], "`y`: got 5 rows, expected 12"),
        (X, 0 * Y, "no zero vector"),
        (X, Y[:, :3], "got 3 features, expected 4"),
        (X, np.full_like(Y, np.inf), "not finite"),
    ],
)
def test_bad_pairs(x, y, words):
    with pytest.raises(ValueError, match=words):
        metrics.cosine_similarity(x, y)


def test_one_pair_has_no_stranger():
    with pytest.raises(ValueError, match="got 1 examples, expected 2 or more"):
        metrics.CosineStatistics.empty(4).update(X[:1], Y[:1]).compute()
