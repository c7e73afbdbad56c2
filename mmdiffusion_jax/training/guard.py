"""Leaves steps that are not finite out of a run, and counts spikes of the loss.

It runs on the devices; the training loop reads the counts together with the metrics.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

# Losses before one can be a spike, decay of their average, and standard deviations of a spike.
_WARM, _DECAY, _WIDTH = 100, 0.99, 6.0


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Guard:
    """Statistics of past steps; scalars.

    Attributes:
        in_row: how many steps up to now were left out one after another.
        skipped: how many steps were left out in all.
        seen: how many losses were finite.
        mean: their exponential moving average.
        variance: the moving average of their squared distance from it.
    """

    in_row: jax.Array
    skipped: jax.Array
    seen: jax.Array
    mean: jax.Array
    variance: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Verdict:
    """Whether a step was left out, and whether its loss is a spike; scalars.

    Attributes:
        skipped: 1 where it was left out, else 0.
        in_row: of the guard after the step.
        spike: 1 where its loss is a spike, else 0.
    """

    skipped: Any
    in_row: Any
    spike: Any


def fresh_guard() -> Guard:
    """The guard before the first step.

    Example:
        >>> int(fresh_guard().skipped)
        0
    """
    # Separate arrays, as all of them are donated.
    count, number = (lambda: jnp.zeros((), jnp.int32)), (lambda: jnp.zeros((), jnp.float32))
    return Guard(count(), count(), count(), number(), number())


def watch(guard: Guard, loss: jax.Array, finite: jax.Array) -> tuple[Guard, Verdict]:
    """Adds the loss of one step to the statistics.

    A spike is a finite loss more than six standard deviations above the moving average of those
    before it, once 100 are seen. It is counted, not left out, and enters the average as if it were
    six deviations above, so that one spike does not hide the next.

    Args:
        guard: before the step.
        loss: of the step, a scalar.
        finite: whether loss and gradients are finite, a scalar.

    Returns:
        The guard after the step, and its verdict.

    Example:
        >>> guard = fresh_guard()
        >>> for value in (1.0, float("nan"), float("nan")):
        ...     loss = jnp.asarray(value)
        ...     guard, verdict = watch(guard, loss, jnp.isfinite(loss))
        >>> int(guard.seen), int(verdict.in_row)
        (1, 2)
    """
    loss = loss.astype(jnp.float32)
    bad = (~finite).astype(jnp.int32)
    highest = guard.mean + _WIDTH * jnp.sqrt(guard.variance)
    spike = finite & (guard.seen >= _WARM) & (loss > highest)
    taken = jnp.where(spike, highest, loss)
    # The first ones weigh more, so that the average is not one of zeros.
    keep = jnp.minimum(_DECAY, guard.seen / (guard.seen + 1.0))
    distance = taken - guard.mean
    mean = guard.mean + (1 - keep) * distance
    variance = keep * (guard.variance + (1 - keep) * distance**2)
    after = Guard(
        in_row=(guard.in_row + 1) * bad,
        skipped=guard.skipped + bad,
        seen=guard.seen + 1 - bad,
        mean=jnp.where(finite, mean, guard.mean),
        variance=jnp.where(finite, variance, guard.variance),
    )
    return after, Verdict(bad, after.in_row, spike.astype(jnp.int32))
