"""The inception score: how sure a classifier is, and how many classes it finds."""

import dataclasses
from typing import Self

import jax
import numpy as np

from mmdiffusion_jax import errors
from mmdiffusion_jax.metrics.labels import checked_probabilities
from mmdiffusion_jax.metrics.statistics import Sums, check_counted


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PredictionStatistics(Sums):
    """Count and sums of class probabilities and of their negative entropy.

    Attributes:
        count: examples so far.
        total: (classes,), Σ p.
        negative_entropy: Σ Σ_k p_k ln p_k, nats.
    """

    count: np.int64
    total: np.ndarray
    negative_entropy: np.float64

    @classmethod
    def empty(cls, num_classes: int) -> Self:
        """Before the first example."""
        return cls(np.int64(0), np.zeros(num_classes), np.float64(0))

    def update(self, probabilities: np.ndarray) -> Self:
        """With more examples, probabilities (n, classes).

        Raises:
            ValueError: another rank or number of classes, or rows that are no probabilities.
        """
        p = checked_probabilities(probabilities)
        negative_entropy = np.float64(np.sum(_p_log_p(p)))
        return self.merge(type(self)(np.int64(len(p)), p.sum(axis=0), negative_entropy))

    def compute(self) -> float:
        """exp of the mean KL(p(y|x) ‖ p(y)), from 1 to the number of classes.

        The mean KL is the entropy of the mean less the mean of the entropies (Salimans et al. 2016,
        section 4), so sums are enough.

        Raises:
            ValueError: nothing was counted yet.

        Example:
            >>> PredictionStatistics.empty(2).update(np.eye(2)).compute()
            2.0
        """
        check_counted(self.count)
        divergence = self.negative_entropy / self.count - _p_log_p(self.total / self.count).sum()
        return float(np.exp(divergence))


def inception_score(
    probabilities: np.ndarray, *, num_splits: int = 10, seed: int | None = 0
) -> tuple[float, float]:
    """Mean and standard deviation over splits of exp E KL(p(y|x) ‖ p(y)).

    Args:
        probabilities: (n, classes), of a classifier that reports should name.
        num_splits: equal parts, at most n; a smaller part has a smaller score.
        seed: of the shuffle before the split; None keeps the order.

    Returns:
        (mean, standard deviation with n in the denominator).

    Raises:
        ValueError: rows that are no probabilities, or a number of parts that does not fit.

    Example:
        >>> inception_score(np.eye(2), num_splits=1)
        (2.0, 0.0)
    """
    p = checked_probabilities(probabilities)
    if not 1 <= num_splits <= len(p):
        raise errors.invalid("num_splits", num_splits, f"1 … {len(p)}, the examples", "lower it")
    order = np.arange(len(p)) if seed is None else np.random.default_rng(seed).permutation(len(p))
    cuts = np.arange(1, num_splits) * len(p) // num_splits
    empty = PredictionStatistics.empty(p.shape[1])
    scores = [empty.update(p[rows]).compute() for rows in np.split(order, cuts)]
    return float(np.mean(scores)), float(np.std(scores))


def _p_log_p(p: np.ndarray) -> np.ndarray:
    """Each p ln p, with 0 ln 0 = 0."""
    return p * np.log(np.where(p > 0, p, 1.0))
