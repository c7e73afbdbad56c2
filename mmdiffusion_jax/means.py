"""Scalars of which several can be joined: means that say what they count, and the worst case.

A loss that returns these in place of plain scalars has the means of its data, whatever the parts of
a batch, the batches and the devices that they were summed over.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Mean:
    """A mean over the examples that count.

    Attributes:
        total: the sum over these examples, a scalar.
        count: how many they are, a scalar of the same dtype.

    Example:
        >>> float(Mean(6.0, 3.0)), float(Mean(0.0, 0.0))
        (2.0, 0.0)
    """

    total: Any
    count: Any

    @property
    def value(self) -> Any:
        """The mean; 0 where nothing counts."""
        # On the host in double precision where its numbers are.
        maximum = jnp.maximum if isinstance(self.count, jax.Array) else np.maximum
        return self.total / maximum(self.count, 1)

    def __float__(self) -> float:
        """The mean as a number of Python."""
        return float(self.value)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Worst:
    """Something about the example with the greatest score.

    Attributes:
        score: of the example, a scalar; infinite where it is not finite.
        value: what is said about the example, a scalar.
    """

    score: Any
    value: Any

    def __float__(self) -> float:
        """What is said about the example as a number of Python."""
        return float(self.value)


Scalar = Any
"""A `Mean`, a `Worst`, or a plain scalar."""


def join(stacked: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """One set of scalars of n of them: totals and counts are added up, the worst case stays.

    Args:
        stacked: {name: scalar whose arrays have a leading axis n}, of NumPy or of JAX; of plain
            scalars the mean is taken.

    Example:
        >>> import numpy as np
        >>> parts = {"label/loss": Mean(np.array([6.0, 0.0]), np.array([3.0, 0.0])),
        ...          "loss": np.array([1.0, 2.0])}
        >>> {name: float(x) for name, x in values(join(parts)).items()}
        {'label/loss': 2.0, 'loss': 1.5}
    """
    joined: dict[str, Scalar] = {}
    for name, each in stacked.items():
        if isinstance(each, Mean):
            joined[name] = Mean(each.total.sum(axis=0), each.count.sum(axis=0))
        elif isinstance(each, Worst):
            worst = each.score.argmax()
            joined[name] = Worst(each.score[worst], each.value[worst])
        else:
            joined[name] = each.mean(axis=0)
    return joined


def values(scalars: Mapping[str, Scalar]) -> dict[str, Any]:
    """{name: plain scalar}, the value of each."""
    return {
        name: each.value if isinstance(each, Mean | Worst) else each
        for name, each in scalars.items()
    }
