"""Any split into shards and batches, merged in any order, gives what one pass gives."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdiffusion_jax import metrics

RNG = np.random.default_rng(0)
PROBABILITIES = RNG.dirichlet(np.ones(4), 60)
CASES = {
    "mean": (metrics.MeanStatistics.empty(), (RNG.normal(size=60),)),
    "moments": (metrics.MomentStatistics.empty(3), (RNG.normal(3, 2, size=(60, 3)),)),
    "predictions": (metrics.PredictionStatistics.empty(4), (PROBABILITIES,)),
    "calibration": (
        metrics.CalibrationStatistics.empty(5),
        (PROBABILITIES, RNG.integers(0, 4, 60)),
    ),
    "cosine": (metrics.CosineStatistics.empty(3), tuple(RNG.normal(size=(2, 60, 3)))),
    "confusion": (metrics.ConfusionStatistics.empty(4), tuple(RNG.integers(0, 4, (2, 60, 5)))),
}


def whole_and_parts(empty, columns, seed):
    rng = np.random.default_rng(seed)
    order = rng.permutation(60)
    cuts = np.sort(rng.integers(0, 61, rng.integers(1, 8)))
    shards = []
    for rows in np.split(order, cuts):
        shard = empty
        for batch in np.array_split(rows, rng.integers(1, 4)):
            if len(batch):
                shard = shard.update(*(column[batch] for column in columns))
        shards.append(shard)
    shards = [shards[i] for i in rng.permutation(len(shards))]
    return empty.update(*columns), functools.reduce(lambda a, b: a.merge(b), shards)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("seed", range(5))
def test_any_split_and_merge_is_the_whole(name, seed):
    whole, merged = whole_and_parts(*CASES[name], seed)
    chex.assert_trees_all_equal_dtypes(whole, merged)
    chex.assert_trees_all_close(whole, merged, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", CASES)
def test_an_update_leaves_what_it_was_given(name):
    empty, columns = CASES[name]
    empty.update(*columns)
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(empty))


def test_means_and_moments_against_numpy():
    values, rows = CASES["mean"][1][0], CASES["moments"][1][0]
    mean, deviation = metrics.MeanStatistics.empty().update(values).compute()
    np.testing.assert_allclose([mean, deviation], [values.mean(), values.std(ddof=1)])
    got = metrics.MomentStatistics.empty(3).update(rows).compute()
    np.testing.assert_allclose(got[0], rows.mean(axis=0))
    np.testing.assert_allclose(got[1], np.cov(rows, rowvar=False))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: metrics.MeanStatistics.empty().compute(), "got 0 examples, expected 1 or more"),
        (lambda: metrics.MomentStatistics.empty(2).update([[1, 2]]).compute(), "got 1 examples"),
        (lambda: metrics.MomentStatistics.empty(2).update([[1, 2, 3]]), r"shapes \[\(\), \(3,\)"),
        (lambda: metrics.MomentStatistics.empty(2).update([[1, np.nan]]), "not finite"),
        (
            lambda: metrics.MeanStatistics.empty().merge(metrics.MomentStatistics.empty(2)),
            "`other`: got MomentStatistics",
        ),
    ],
)
def test_bad_statistics(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_sums_of_32_bits_are_refused():
    """As JAX's collectives make of them: a count of 3 · 10⁹ came back below 0."""
    one = metrics.ConfusionStatistics.empty(2).update(np.array([0, 1]), np.array([0, 1]))
    gathered = jax.tree.map(jnp.asarray, one)
    with pytest.raises(ValueError, match="`other`: got sums of int32, expected float64 or int64"):
        one.merge(gathered)
