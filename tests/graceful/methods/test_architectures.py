"""The search against trying everything."""

import pytest

from mmdiffusion_jax.graceful import search

SPACE = {"width": (1, 2, 4, 8, 16), "depth": (1, 2, 3, 4), "slope": (0.0, 0.1, 0.2)}


def cost(chosen):
    return chosen["width"] * chosen["depth"]


def reward(chosen):
    """A smooth hill whose top lies beyond the budget."""
    return -abs(chosen["width"] - 9) - abs(chosen["depth"] - 3) - chosen["slope"]


def everything():
    return [
        {"width": w, "depth": d, "slope": s}
        for w in SPACE["width"]
        for d in SPACE["depth"]
        for s in SPACE["slope"]
        if w * d <= 20
    ]


def test_with_time_enough_everything_within_the_budget_is_tried_once():
    tried = search(SPACE, cost, reward, budget=20, num_tried=1000, seed=0)
    assert len(tried) == len(everything())
    assert {tuple(c.architecture.values()) for c in tried} == {
        tuple(chosen.values()) for chosen in everything()
    }
    assert all(c.cost == cost(c.architecture) <= 20 for c in tried)
    rewards = [c.reward for c in tried]
    assert rewards == sorted(rewards, reverse=True)


def test_it_finds_more_than_chance_does():
    """Among 1,200 architectures 60 are tried; the best of each of 20 seeds."""
    space = {"width": range(20), "depth": range(12), "kernel": range(5)}

    def best(seed, first):
        tried = search(
            space,
            lambda chosen: 1,
            lambda chosen: -sum(map(abs, centred(chosen))),
            1,
            60,
            seed,
            first,
        )
        return tried[0].reward

    def centred(chosen):
        return chosen["width"] - 13, chosen["depth"] - 4, chosen["kernel"] - 3

    climbed, drawn = ([best(seed, first) for seed in range(20)] for first in (8, 60))
    assert sum(climbed) > sum(drawn)
    assert best(3, 8) == best(3, 8)


def test_what_is_too_dear_is_never_trained():
    def refusing(chosen):
        assert cost(chosen) <= 3
        return 0.0

    assert search(SPACE, cost, refusing, budget=3, num_tried=99, seed=0)


@pytest.mark.parametrize(
    ("change", "words"),
    [({"budget": 0}, "`budget`: got 0"), ({"space": {"width": ()}}, "`space`: got")],
)
def test_bad_input(change, words):
    options = {"space": SPACE, "budget": 20, "num_tried": 3, "seed": 0, **change}
    with pytest.raises(ValueError, match=words):
        search(cost=cost, reward=reward, **options)
