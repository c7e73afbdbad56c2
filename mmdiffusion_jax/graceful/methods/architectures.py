"""Heterogeneous models (Duggal et al. 2021, "Compatibility-aware heterogeneous visual search").

A small encoder on a device at the edge queries an index that a large one has filled. The small
encoder's architecture is searched under a budget of operations, and rewarded by its retrieval in
the large one's index.
"""

import dataclasses
import itertools
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mmdiffusion_jax import errors

Architecture = Mapping[str, Any]
"""{name of a choice: chosen value}."""


@dataclasses.dataclass(frozen=True)
class Candidate:
    """An architecture that was tried.

    Attributes:
        architecture: the chosen values.
        cost: multiply-adds of one example.
        reward: M(small, large), higher is better.
    """

    architecture: Architecture
    cost: int
    reward: float


def search(
    space: Mapping[str, Sequence[Any]],
    cost: Callable[[Architecture], int],
    reward: Callable[[Architecture], float],
    budget: int,
    num_tried: int,
    seed: int,
    first: int = 8,
) -> list[Candidate]:
    """Climbs from the best of a few random architectures to their neighbours, within a budget.

    The first ones are drawn at random. Then one choice of the best so far is changed, until all its
    neighbours are known and the next best follows. None is tried twice, and none beyond the budget.

    Args:
        space: {name of a choice: its values}.
        cost: counts multiply-adds, such as half of `training.product_flops`.
        reward: trains the small encoder against the large one's gallery and gives M(small, large)
            on validation data.
        budget: the greatest cost.
        num_tried: how many are trained; all within the budget where there are no more.
        seed: of the draws.
        first: how many are drawn at random.

    Returns:
        All that were tried, the best first.

    Raises:
        ValueError: a space without choices, or nothing in it within the budget.

    Example:
        >>> tried = search({"width": (1, 2, 4, 8)}, lambda a: a["width"], lambda a: a["width"],
        ...                budget=5, num_tried=9, seed=0)
        >>> [candidate.reward for candidate in tried]
        [4, 2, 1]
    """
    if not space or not all(len(values) for values in space.values()):
        raise errors.invalid("space", space, "a value or more a choice", "add some")
    names = list(space)
    costs = {}
    for chosen in itertools.product(*space.values()):
        architecture = dict(zip(names, chosen, strict=True))
        if (spent := cost(architecture)) <= budget:
            costs[chosen] = spent
    if not costs:
        raise errors.invalid("budget", budget, "the cost of some architecture", "raise it")
    rng = np.random.default_rng(seed)
    tried: dict[tuple[Any, ...], Candidate] = {}
    while len(tried) < min(num_tried, len(costs)):
        left = [chosen for chosen in costs if chosen not in tried]
        if len(tried) >= first:
            # The best of which some neighbour has not been tried yet.
            for parent in sorted(tried, key=lambda chosen: -tried[chosen].reward):
                near = [chosen for chosen in left if sum(map(operator.ne, chosen, parent)) == 1]
                if near:
                    left = near
                    break
        chosen = left[rng.integers(len(left))]
        architecture = dict(zip(names, chosen, strict=True))
        tried[chosen] = Candidate(architecture, costs[chosen], reward(architecture))
    return sorted(tried.values(), key=lambda candidate: -candidate.reward)
