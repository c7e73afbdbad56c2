"""How well embeddings of pairs agree: the cosine of pairs against that of unpaired rows."""

import dataclasses
from typing import Self

import jax
import numpy as np

from mmdiffusion_jax import errors
from mmdiffusion_jax.metrics.rows import checked_pair
from mmdiffusion_jax.metrics.statistics import Sums, check_counted


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class CosineStatistics(Sums):
    """Count, sum of paired cosines, and sums of the unit vectors of each side.

    The mean over all unpaired rows needs no shuffle: Σ_{i≠j} x̂_i·ŷ_j = (Σ x̂)·(Σ ŷ) − Σ x̂_i·ŷ_i.

    Attributes:
        count: pairs so far.
        paired: Σ x̂_i·ŷ_i.
        total_x: (features,), Σ x̂.
        total_y: (features,), Σ ŷ.
    """

    count: np.int64
    paired: np.float64
    total_x: np.ndarray
    total_y: np.ndarray

    @classmethod
    def empty(cls, num_features: int) -> Self:
        """Before the first pair."""
        zeros = np.zeros(num_features)
        return cls(np.int64(0), np.float64(0), zeros, zeros)

    def update(self, x: np.ndarray, y: np.ndarray) -> Self:
        """With more pairs, x and y (n, features).

        Raises:
            ValueError: other shapes, or vectors that are zero or not finite.
        """
        x, y = _unit_pairs(x, y)
        return self.merge(type(self)(np.int64(len(x)), (x * y).sum(), x.sum(axis=0), y.sum(axis=0)))

    def compute(self) -> tuple[float, float]:
        """(mean cosine of the pairs, mean cosine of all x_i and y_j with i ≠ j).

        Raises:
            ValueError: fewer than two pairs.

        Example:
            >>> CosineStatistics.empty(2).update(np.eye(2), np.eye(2)).compute()
            (1.0, 0.0)
        """
        check_counted(self.count, at_least=2)
        unpaired = self.total_x @ self.total_y - self.paired
        return float(self.paired / self.count), float(unpaired / (self.count * (self.count - 1)))


def cosine_similarity(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """x·y / (‖x‖ ‖y‖) of each pair of rows (n, features): (n,) in [−1, 1].

    Raises:
        ValueError: other shapes, or vectors that are zero or not finite.

    Example:
        >>> cosine_similarity(np.array([[3.0, 4.0]]), np.array([[4.0, 3.0]])).round(3)
        array([0.96])
    """
    x, y = _unit_pairs(x, y)
    return (x * y).sum(axis=1)


def _unit_pairs(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x, y = checked_pair(x, y)
    norms = [np.linalg.norm(each, axis=1, keepdims=True) for each in (x, y)]
    if len(x) != len(y) or not (np.all(norms[0] > 0) and np.all(norms[1] > 0)):
        raise errors.invalid(
            "y",
            f"{len(y)} rows",
            f"{len(x)}, one for each of x, and no zero vector on either side",
            "pass pairs of embeddings",
        )
    return x / norms[0], y / norms[1]
