"""What keeps bad numbers out of a run: steps that are not finite are left out, spikes are counted.

All of it happens on the devices; the loop reads the counts when it reads the metrics.
"""

import dataclasses
import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp

_WARM = 100
_FORGET = 0.99
_WIDTH = 6.0


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Guard:
    """What the guard remembers; scalars.

    Attributes:
        in_row: steps left out one after another, up to now.
        skipped: steps left out in all.
        seen: finite losses.
        mean: their exponential moving average.
        variance: the moving average of their squared distance from it.
    """

    in_row: jax.Array
    skipped: jax.Array
    seen: jax.Array
    mean: jax.Array
    variance: jax.Array


def fresh_guard() -> Guard:
    """A guard that has seen nothing.

    Example:
        >>> int(fresh_guard().skipped)
        0
    """
    # One array each, as all of them are donated.
    count, number = (lambda: jnp.zeros((), jnp.int32)), (lambda: jnp.zeros((), jnp.float32))
    return Guard(count(), count(), count(), number(), number())


def watch(guard: Guard, loss: jax.Array, finite: jax.Array) -> tuple[Guard, dict[str, jax.Array]]:
    """Takes one step's loss in.

    A spike is a finite loss more than six standard deviations above the moving average of those
    before it, once 100 are seen. It is counted, not left out, and enters the average as if it were
    six deviations above, so that one spike does not hide the next.

    Args:
        guard: as the step found it.
        loss: of the step, a scalar.
        finite: whether loss and gradients are, a scalar.

    Returns:
        The guard after the step, and scalars: `skipped` (0 or 1), `skipped_in_row`, `spike` (0 or
        1).

    Example:
        >>> guard = fresh_guard()
        >>> for value in (1.0, float("nan"), float("nan")):
        ...     loss = jnp.asarray(value)
        ...     guard, counts = watch(guard, loss, jnp.isfinite(loss))
        >>> int(guard.seen), int(counts["skipped_in_row"])
        (1, 2)
    """
    loss = loss.astype(jnp.float32)
    bad = (~finite).astype(jnp.int32)
    highest = guard.mean + _WIDTH * jnp.sqrt(guard.variance)
    spike = finite & (guard.seen >= _WARM) & (loss > highest)
    taken = jnp.where(spike, highest, loss)
    # The first ones weigh more, so that the average is not one of zeros.
    keep = jnp.minimum(_FORGET, guard.seen / (guard.seen + 1.0))
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
    counts = {"skipped": bad, "skipped_in_row": after.in_row, "spike": spike.astype(jnp.int32)}
    return after, counts


def diagnose(step: int, metrics: Mapping[str, float]) -> str:
    """Says of a step that was not finite where it began: in the data, a modality or the gradients.

    Args:
        step: its number.
        metrics: its scalars, as `take_step` gives them.

    Example:
        >>> diagnose(7, {"loss": float("nan"), "label/loss": float("nan"), "image/loss": 0.5,
        ...              "worst_t": 93.0, "finite/image": 1, "gradient_norm": 1.0})
        "loss nan at step 7; not finite: 'label/loss'; at t = 93"
    """
    words = [f"loss {metrics['loss']} at step {step}"]
    columns = [
        name.partition("/")[2]
        for name, value in metrics.items()
        if name.startswith("finite/") and not value
    ]
    if columns:
        words.append(f"numbers that are not finite in the data: {', '.join(map(repr, columns))}")
    where = [
        repr(name)
        for name, value in metrics.items()
        if name not in ("loss", "worst_t") and not math.isfinite(value)
    ]
    if where:
        words.append(f"not finite: {', '.join(where)}")
    if "worst_t" in metrics and math.isfinite(metrics["worst_t"]):
        words.append(f"at t = {metrics['worst_t']:.0f}")
    return "; ".join(words)
