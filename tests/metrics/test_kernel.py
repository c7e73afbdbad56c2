"""The kernel distance against sums over pairs."""

import numpy as np
import pytest

from mmdiffusion_jax import metrics


def by_pairs(x, y):
    def kernel(a, b):
        return (sum(float(p) * float(q) for p, q in zip(a, b)) / len(a) + 1) ** 3

    def within(z):
        pairs = [(i, j) for i in range(len(z)) for j in range(len(z)) if i != j]
        return sum(kernel(z[i], z[j]) for i, j in pairs) / len(pairs)

    across = sum(kernel(a, b) for a in x for b in y) / (len(x) * len(y))
    return within(x) + within(y) - 2 * across


@pytest.mark.parametrize("block_size", [4, 1024])
def test_against_pairs(block_size):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(9, 3)), rng.normal(1, 2, size=(14, 3))
    distance = metrics.kernel_distance(x, y, block_size=block_size)
    assert abs(distance - by_pairs(x, y)) < 1e-10 * abs(distance)


def test_it_is_unbiased():
    rng = np.random.default_rng(1)
    draws = [metrics.kernel_distance(*rng.normal(size=(2, 8, 2))) for _ in range(3000)]
    assert min(draws) < 0
    assert abs(np.mean(draws)) < 4 * np.std(draws) / np.sqrt(len(draws))


def test_subsets_of_everything_are_the_whole_and_seeds_differ():
    x, y = np.random.default_rng(2).normal(size=(2, 12, 3))
    mean, deviation = metrics.kernel_distance_of_subsets(x, y, num_subsets=3, subset_size=12)
    np.testing.assert_allclose(mean, metrics.kernel_distance(x, y))
    assert deviation < 1e-12

    def draw(seed):
        return metrics.kernel_distance_of_subsets(x, y, num_subsets=4, subset_size=5, seed=seed)

    assert draw(0) == draw(0) != draw(1)
    assert draw(0)[1] > 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"subset_size": 13}, r"got 13, expected 2 … 12"),
        ({"subset_size": 1}, "got 1"),
        ({"subset_size": 5, "num_subsets": 0}, "`num_subsets`: got 0"),
    ],
)
def test_bad_subsets(options, words):
    with pytest.raises(ValueError, match=words):
        metrics.kernel_distance_of_subsets(np.zeros((12, 2)), np.zeros((15, 2)), **options)


@pytest.mark.parametrize("block_size", [0, -5])
def test_bad_blocks(block_size):
    with pytest.raises(ValueError, match=f"`block_size`: got {block_size}, "):
        metrics.kernel_distance(np.zeros((5, 2)), np.zeros((5, 2)), block_size=block_size)


def test_other_features_are_refused():
    with pytest.raises(ValueError, match="got 3 features, expected 2"):
        metrics.kernel_distance(np.zeros((5, 2)), np.zeros((5, 3)))
