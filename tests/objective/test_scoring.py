"""Scores of candidates against exact conditionals, Bayes, and the bound itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.special import log_softmax

from mmdiffusion_jax import objective
from tests.linear_world import LinearWorld
from tests.mixture_world import MixtureWorld


def averaged(diffusion, batch, name, candidates, num_keys):
    """Scores from the mean of several estimates of the bound."""
    scores = jax.jit(
        lambda key: objective.candidate_log_probs(key, diffusion, batch, name, candidates)
    )
    log_probs = np.stack([scores(jax.random.key(seed)) for seed in range(num_keys)])
    return log_softmax(log_probs.mean(0), axis=1)


def linear_scores(count, num_steps, name, num_keys):
    """(scores, exact log-conditionals) of six spread candidates for a few examples."""
    world = LinearWorld(count, num_steps)
    names = ("p", *world.names)
    batch, _ = world.draw(12)
    part = slice(2 * names.index(name), 2 * names.index(name) + 2)
    spread = np.linalg.cholesky(world.covariance[part, part])
    around = np.random.default_rng(0).normal(size=(6, 2)) @ spread.T
    candidates = jnp.float32(world.mean[part] + 1.5 * around)
    law = stats.multivariate_normal(world.mean, world.covariance)
    points = np.concatenate([batch[each] for each in names], axis=1).astype(np.float64)
    points = np.repeat(points[:, None], 6, axis=1)
    points[:, :, part] = candidates
    exact = log_softmax(law.logpdf(points), axis=1)
    others = {each: x for each, x in batch.items() if each != name} or batch
    return averaged(world.diffusion(), others, name, candidates, num_keys), exact


def test_alone_the_scores_close_on_the_exact_ones():
    errors = []
    for num_steps in (8, 128):
        scores, exact = linear_scores(0, num_steps, "p", 8)
        errors.append(np.abs(np.exp(scores) - np.exp(exact)).mean())
    assert errors[0] > 2 * errors[1]
    assert errors[1] < 0.02


@pytest.mark.parametrize("name", ["p", "x0"])
def test_given_another_the_order_is_the_exact_one(name):
    """The bound's slack depends on the candidate, so only the clear differences must agree."""
    scores, exact = linear_scores(1, 64, name, 8)
    apart = exact[:, :, None] - exact[:, None, :]
    clear = apart > 2
    assert clear.sum() > 50
    agree = (scores[:, :, None] > scores[:, None, :])[clear]
    assert agree.mean() > 0.95
    assert np.corrcoef(scores.ravel(), exact.ravel())[0, 1] > 0.9


def test_labels_by_bayes():
    world = MixtureWorld(64)
    batch = {"x": world.draw(200, seed=0)["x"]}
    exact = world.posterior(np.asarray(batch["x"]))
    arguments = world.diffusion(), batch, "label", jnp.arange(3)
    scores = averaged(*arguments, 8)
    assert (scores.argmax(1) == exact.argmax(1)).mean() > 0.95
    assert np.abs(np.exp(scores) - exact).mean() < 0.05
    sure = exact.max(1) > 0.9
    assert (scores.argmax(1) == exact.argmax(1))[sure].all()


def test_every_step_is_the_bound_itself_under_the_same_noise():
    world = LinearWorld(1, 5)
    batch, _ = world.draw(4)
    diffusion = world.diffusion()
    key, candidates = jax.random.key(7), jax.random.normal(jax.random.key(8), (3, 2))
    got = objective.candidate_log_probs(key, diffusion, batch, "x0", candidates)
    total = jax.jit(lambda batch: objective.bound(key, diffusion, batch).total)
    totals = [total({**batch, "x0": jnp.broadcast_to(value, (4, 2))}) for value in candidates]
    np.testing.assert_allclose(got, log_softmax(-np.stack(totals, 1), axis=1), atol=1e-4)
    np.testing.assert_allclose(np.exp(got).sum(1), 1, rtol=1e-5)


@pytest.mark.parametrize("times", [(3,), (4, 1, 4)])
def test_a_subset_is_scaled_to_the_full_sum(times):
    """T − 1 times the mean of L1's summands above 1, the mean of L2's, and L3 at t = 1."""
    world = LinearWorld(1, 5)
    batch, _ = world.draw(4)
    diffusion = world.diffusion()
    key, candidates = jax.random.key(7), jax.random.normal(jax.random.key(8), (2, 2))
    at = jax.jit(lambda t, noise, batch: objective.bound_at(t, noise, diffusion, batch))
    got = objective.candidate_log_probs(key, diffusion, batch, "x0", candidates, times)
    steps = times if 1 in times else (*times, 1)
    totals = []
    for value in candidates:
        whole = {**batch, "x0": jnp.broadcast_to(value, (4, 2))}
        parts = []
        for index, t in enumerate(steps, start=1):
            noise = objective.step_noise(key, index, batch["p"])
            parts.append(at(jnp.full((4,), t), noise, whole))
        posterior = np.mean([p.posterior / 5 for p, t in zip(parts, steps) if t > 1], axis=0)
        recovery = np.mean([p.recovery for p in parts[: len(times)]], axis=0)
        first = parts[steps.index(1)]
        totals.append(first.prior + 4 * posterior + recovery + first.reconstruction / 5)
    np.testing.assert_allclose(got, log_softmax(-np.stack(totals, 1), axis=1), atol=1e-4)


def test_an_absent_modality_does_not_count():
    world = LinearWorld(2, 5)
    batch, _ = world.draw(4)
    diffusion = world.diffusion()
    candidates = jnp.eye(2)
    scores = [
        objective.candidate_log_probs(
            jax.random.key(0), diffusion, {**batch, "x1": value * batch["x1"]}, "x0", candidates,
            presence={"x0": jnp.zeros(4), "x1": jnp.zeros(4)},
        )
        for value in (1, 9)
    ]  # fmt: skip
    np.testing.assert_array_equal(*scores)
    assert np.abs(np.diff(scores[0], axis=1)).min() > 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "x00"}, "`name`: got 'x00'.*did you mean 'x0'"),
        ({"candidates": jnp.ones((1, 2))}, r"`candidates`: got shape \(1, 2\).*at least 2 rows"),
        ({"times": [0, 3]}, "`times`: got 0, expected values in 1 … 5"),
        ({"times": [3, 6]}, "`times`: got 6, expected values in 1 … 5"),
        ({"times": [1]}, "`times`: got 1 alone, expected a t above 1 too"),
        ({"times": []}, "`times`: got .*a list of integers, not empty"),
        ({"times": [1.5]}, "`times`: got .*float64, expected a list of integers"),
        ({"batch": {}}, "`batch`: got no modality at all"),
        ({"batch": {"x0": jnp.ones((3, 2))}}, "`batch`: got nothing for 'p'"),
    ],
)
def test_bad_input(change, words):
    world = LinearWorld(1, 5)
    batch, _ = world.draw(3)
    arguments = {"batch": batch, "name": "x0", "candidates": jnp.eye(2), **change}
    with pytest.raises(ValueError, match=words):
        objective.candidate_log_probs(jax.random.key(0), world.diffusion(), **arguments)
