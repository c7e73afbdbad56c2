"""Means over steps, or over parts of a batch, of scalars that are means over examples."""

from collections.abc import Mapping
from types import ModuleType
from typing import Any

COUNT = "count/"
"""Before the name of a scalar: how many examples that scalar is a mean over."""


def mean_scalars(values: Mapping[str, Any], xp: ModuleType) -> dict[str, Any]:
    """Means of stacked scalars; one that says what it counts is weighed by that.

    A scalar `s` beside `count/s` becomes Σ count · s / Σ count, which is its mean over all examples
    that count, and 0 where none does; `count/s` becomes Σ count. Other scalars become their plain
    mean.

    Args:
        values: {name: (n,)}.
        xp: `numpy`, or `jax.numpy` inside of a compiled function.

    Returns:
        {name: scalar}.

    Example:
        >>> import numpy as np
        >>> scalars = {"label/loss": np.array([2.0, 0.0]), "count/label/loss": np.array([3, 0])}
        >>> {name: float(x) for name, x in mean_scalars(scalars, np).items()}
        {'label/loss': 2.0, 'count/label/loss': 3.0}
    """
    means = {}
    for name, each in values.items():
        if name.startswith(COUNT):
            means[name] = xp.sum(each, axis=0)
        elif COUNT + name in values:
            counts = values[COUNT + name].astype(each.dtype)
            total = xp.sum(xp.where(counts > 0, counts * each, 0), axis=0)
            means[name] = total / xp.maximum(xp.sum(counts, axis=0), 1)
        else:
            means[name] = xp.mean(each, axis=0)
    return means
