"""The bound of every conditional against the exact one, where all is Gaussian."""

import itertools

import jax
import numpy as np
import pytest

from mmdiffusion_jax import objective
from tests.shown_world import ShownWorld

EVERYONE = ("p", "x0", "x1")
SUBSETS = [subset for size in range(3) for subset in itertools.combinations(EVERYONE, size)]


def gap_of(given, num_steps, scale):
    world = ShownWorld(2, num_steps, scale=scale)
    # The other modalities are recovered from the first state, which has the most to tell.
    pi = np.eye(num_steps)[0]
    batch, _ = world.draw(2000)
    exact = world.exact(batch, given)
    call = jax.jit(lambda key: objective.bound(key, world.diffusion(), batch, None, pi, given))
    difference = np.asarray(call(jax.random.key(0)).total) - exact
    return difference.mean(), difference.std() / 2000**0.5


@pytest.mark.parametrize(
    "given",
    [
        pytest.param(given, marks=[pytest.mark.long] * (given in {("x1",), ("x0", "x1")}))
        for given in SUBSETS
    ],
    ids="-".join,
)
def test_the_bound_of_a_conditional_lies_above_it_and_closes(given):
    """What the steps leave falls with their number; a drift of what is unknown costs more."""
    if "p" in given:
        # Nothing is diffused: the heads are exact, one given the other.
        assert abs(gap_of(given, 4, 0.7)[0]) < 1e-6
        return
    gaps = []
    for num_steps in (4, 16, 64):
        gap, error = gap_of(given, num_steps, 0.01)
        assert gap > -4 * error
        gaps.append(gap)
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] < 0.6
    gap, error = gap_of(given, 16, 0.7)
    assert gap > gaps[1] - 4 * error


@pytest.mark.parametrize(
    "order",
    [
        ["x0", "p", "x1"],
        pytest.param(["p", "x0", "x1"], marks=pytest.mark.long),
        pytest.param(["x1", "x0", "p"], marks=pytest.mark.long),
    ],
)
def test_the_bound_of_a_chain_closes_whatever_drives_the_process(order):
    """In an order nothing unknown is carried but the primary, so that only the steps cost."""
    gaps = []
    for num_steps in (4, 16, 64):
        world = ShownWorld(2, num_steps)
        batch, exact = world.draw(2000)
        call = jax.jit(
            lambda key, world=world, batch=batch: (
                objective.bound(key, world.diffusion(), batch, order=order).total
            )
        )
        gap = np.asarray(call(jax.random.key(0))) - exact
        assert gap.mean() > -4 * gap.std() / 2000**0.5
        gaps.append(gap.mean())
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] < 0.5


@pytest.mark.long
def test_the_flow_and_the_scores_take_a_chain_too():
    world = ShownWorld(2, 64)
    batch, exact = world.draw(500)
    flow = jax.jit(
        lambda key: objective.flow_bound(
            key, world.diffusion(), batch, None, None, ["x0", "p", "x1"]
        )
    )
    difference = np.asarray(flow(jax.random.key(0))) - exact
    assert abs(difference.mean()) < 0.3
    candidates = world.mean[2:4] + np.array([[0.0, 0.0], [1.0, 0.5], [-1.0, 1.0], [2.0, -2.0]])
    scores = jax.jit(
        lambda key: objective.candidate_log_probs(key, world.diffusion(), batch, "x0", candidates)
    )(jax.random.key(1))
    joint = [
        -world.exact({**batch, "x0": np.broadcast_to(each, (500, 2))}, ()) for each in candidates
    ]
    assert (np.asarray(scores).argmax(axis=1) == np.argmax(joint, axis=0)).mean() > 0.9


def test_the_estimate_from_one_t_has_the_bound_as_its_mean():
    world = ShownWorld(2, 4)
    batch, _ = world.draw(2)
    many = {name: np.repeat(np.asarray(x)[:1], 40_000, axis=0) for name, x in batch.items()}
    for given in (("x0",), ("p",)):
        whole = objective.bound(jax.random.key(0), world.diffusion(), many, given=given).total
        estimate = objective.bound_estimate(
            jax.random.key(1), world.diffusion(), many, given=given
        ).total
        error = (np.asarray(estimate).std() + np.asarray(whole).std()) / 200
        assert abs(float(estimate.mean() - whole.mean())) < 4 * error + 1e-6


@pytest.mark.parametrize(
    ("given", "words"),
    [(["x9"], "`given`: got 'x9'.*did you mean 'x"), (EVERYONE, "`given`: got all of")],
)
def test_names_that_cannot_be_given(given, words):
    world = ShownWorld(2, 4)
    batch, _ = world.draw(2)
    with pytest.raises(ValueError, match=words):
        objective.bound(jax.random.key(0), world.diffusion(), batch, given=given)
