"""Flips counted one by one, identities between rates, and distillation against scipy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, rel_entr, softmax

from mmdiffusion_jax import graceful


def decisions(seed, shape=(400,), classes=4):
    """Truth, and two models that err on their own."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, shape)
    old, new = (
        np.where(rng.random(shape) < error, rng.integers(0, classes, shape), truth)
        for error in (0.4, 0.2)
    )
    return old, new, truth


@pytest.mark.parametrize("shape", [(400,), (5, 8, 8), (30, 7)], ids=["labels", "pixels", "items"])
def test_flips_are_those_counted_one_by_one(shape):
    old, new, truth = decisions(0, shape)
    flipped = graceful.flips(old, new, truth)
    broken, mended, wrong = [], 0, 0
    for index in np.ndindex(shape):
        was, now = old[index] == truth[index], new[index] == truth[index]
        if was and not now:
            broken.append(list(index))
        mended += now and not was
        wrong += not now
    assert flipped.broken.tolist() == broken
    assert flipped.negative == pytest.approx(len(broken) / truth.size)
    assert flipped.positive == pytest.approx(mended / truth.size)
    assert flipped.new_error == pytest.approx(wrong / truth.size)


def test_entries_that_are_not_known_count_nowhere():
    old, new, truth = decisions(1, (5, 8, 8))
    known = np.random.default_rng(2).random(truth.shape) < 0.6
    flipped = graceful.flips(old, new, truth, known)
    alone = graceful.flips(old[known], new[known], truth[known])
    for name in ("old_error", "new_error", "negative", "positive"):
        assert getattr(flipped, name) == pytest.approx(getattr(alone, name))
    assert all(known[tuple(index)] for index in flipped.broken)
    assert len(flipped.broken) == len(alone.broken) > 0
    assert flipped.count == known.sum()
    with pytest.raises(ValueError, match="`truth`: got nothing that is known"):
        graceful.flips(old, new, truth, np.zeros_like(known))


@pytest.mark.parametrize("seed", range(20))
def test_rates_bound_each_other(seed):
    flipped = graceful.flips(*decisions(seed))
    assert flipped.negative <= min(flipped.new_error, 1 - flipped.old_error) + 1e-12
    assert flipped.new_error - flipped.old_error == pytest.approx(
        flipped.negative - flipped.positive
    )


def test_models_that_err_independently_have_a_relative_rate_of_one():
    rng = np.random.default_rng(1)
    truth = np.zeros(200_000, int)
    old, new = rng.random((2, len(truth))) < np.array([[0.3], [0.1]])
    assert graceful.flips(old, new, truth).relative_negative == pytest.approx(1, abs=0.03)
    assert graceful.flips(old, old, truth).relative_negative == 0
    assert graceful.flips(old, truth, truth).relative_negative == 0


@pytest.fixture
def logits():
    rng = np.random.default_rng(2)
    old, new = rng.normal(0, 2, (2, 6, 5, 3)).astype(np.float32)
    return old, new, rng.integers(0, 3, (6, 5))


def test_distances_are_those_of_scipy(logits):
    old, new, labels = logits
    plain = {"alpha": 1.0, "beta": 0.0}
    squared = graceful.focal_distillation(new, old, labels, **plain)
    np.testing.assert_allclose(squared, ((new - old) ** 2).sum(-1) / 2, rtol=1e-5)
    tau = 2.5
    divergence = graceful.focal_distillation(
        new, old, labels, distance="kl", temperature=tau, **plain
    )
    shares = (softmax(x / tau, axis=-1) for x in (old, new))
    np.testing.assert_allclose(divergence, tau**2 * rel_entr(*shares).sum(-1), rtol=1e-4)
    np.testing.assert_allclose(
        graceful.focal_distillation(new, new, labels, distance="kl"), 0, atol=1e-6
    )


def test_weights_are_one_plus_five_where_the_old_model_is_right(logits):
    old, new, labels = logits
    focal = graceful.focal_distillation(new, old, labels, alpha=1.0, beta=5.0)
    plain = graceful.focal_distillation(new, old, labels, alpha=1.0, beta=0.0)
    np.testing.assert_allclose(focal / plain, 1 + 5 * (old.argmax(-1) == labels), rtol=1e-5)


@pytest.mark.parametrize("distance", graceful.DISTANCES)
def test_no_gradient_where_the_old_model_is_wrong_and_none_into_it(logits, distance):
    old, new, labels = map(jnp.asarray, logits)

    def total(new, old):
        return graceful.focal_distillation(new, old, labels, distance=distance).sum()

    into_new, into_old = jax.grad(total, argnums=(0, 1))(new, old)
    right = np.asarray(old.argmax(-1) == labels)
    assert 0 < right.sum() < right.size
    assert (np.abs(into_new).sum(-1) > 0).tolist() == right.tolist()
    assert not np.asarray(into_old).any()


def test_an_ensemble_is_the_geometric_mean_of_its_members(logits):
    old, new, _ = logits
    mean = graceful.ensemble_logits(jnp.stack([old, new]))
    geometric = log_softmax((log_softmax(old, axis=-1) + log_softmax(new, axis=-1)) / 2, axis=-1)
    np.testing.assert_allclose(jax.nn.log_softmax(mean), geometric, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: graceful.flips([1, 2], [1], [1, 2]), r"`new`: got shape \(1,\), expected \(2,\)"),
        (lambda: graceful.flips([], [], []), "`truth`: got nothing that is known"),
        (
            lambda: graceful.focal_distillation(jnp.ones((2, 3)), jnp.ones((2, 4)), jnp.ones(2)),
            r"`old_logits`: got shape \(2, 4\)",
        ),
        (  # they would be compared with every example's decision
            lambda: graceful.focal_distillation(*jnp.ones((2, 2, 3)), jnp.ones((2, 1))),
            r"`labels`: got shape \(2, 1\), expected \(2,\)",
        ),
        (
            lambda: graceful.focal_weights(jnp.ones((2, 5, 3)), jnp.ones(5)),
            r"`labels`: got shape \(5,\), expected \(2, 5\)",
        ),
        (
            lambda: graceful.focal_distillation(*jnp.ones((2, 2, 3)), jnp.ones(2), distance="ki"),
            "did you mean 'kl'",
        ),
        (
            lambda: graceful.focal_distillation(
                *jnp.ones((2, 2, 3)), jnp.ones(2), distance="kl", temperature=0
            ),
            "`temperature`: got 0",
        ),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(ValueError, match=words):
        call()
