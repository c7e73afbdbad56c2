"""Labels: the share of right ones, and the calibration of probabilities."""

import dataclasses
from typing import Self

import jax
import numpy as np

from mmdiffusion_jax import errors, ranges
from mmdiffusion_jax.metrics.statistics import Sums, check_counted


def agreement(predicted: np.ndarray, labels: np.ndarray) -> float:
    """The share of right entries, in [0, 1].

    Predictions and true labels are classes (n,), or which labels are present (n, labels).

    Raises:
        ValueError: different shapes.

    Example:
        >>> agreement(np.array([1, 2]), np.array([1, 3]))
        0.5
    """
    predicted, labels = np.asarray(predicted), np.asarray(labels)
    if predicted.shape != labels.shape:
        raise errors.invalid(
            "labels", f"shape {labels.shape}", f"{predicted.shape}, as predicted", "pair them"
        )
    return float(np.mean(predicted == labels))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class CalibrationStatistics(Sums):
    """Counts and sums in bins of equal width of the confidence max_k p_k.

    Bin i of B holds confidences in (i/B, (i + 1)/B], the first one 0 as well.

    Attributes:
        count: (bins,), examples so far.
        correct: (bins,), how many of them have the likeliest class.
        confidence: (bins,), the sum of their confidences.
    """

    count: np.ndarray
    correct: np.ndarray
    confidence: np.ndarray

    @classmethod
    def empty(cls, num_bins: int = 15) -> Self:
        """Before the first example.

        Raises:
            ValueError: no bins.
        """
        ranges.check_whole("num_bins", num_bins, 1)
        counts = np.zeros(num_bins, np.int64)
        return cls(counts, counts, np.zeros(num_bins))

    def update(self, probabilities: np.ndarray, labels: np.ndarray) -> Self:
        """With more examples, probabilities (n, classes) and true classes (n,).

        Raises:
            ValueError: rows that are no probabilities, or labels that do not fit them.
        """
        p, labels = checked_probabilities(probabilities), np.asarray(labels)
        inside = labels.dtype.kind in "iu" and np.all((labels >= 0) & (labels < p.shape[1]))
        if labels.shape != p.shape[:1] or not inside:
            raise errors.invalid(
                "labels",
                f"{labels.dtype} of shape {labels.shape}",
                f"({len(p)},) whole numbers in 0 … {p.shape[1] - 1}",
                "pass one a row of probabilities",
            )
        bins = len(self.count)
        confidence = p.max(axis=1)
        places = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
        right = places[p.argmax(axis=1) == labels]
        return self.merge(
            type(self)(
                np.bincount(places, minlength=bins),
                np.bincount(right, minlength=bins),
                np.bincount(places, weights=confidence, minlength=bins),
            )
        )

    def compute(self) -> float:
        """The expected calibration error, in [0, 1] (Guo et al. 2017, eq. 3).

        Σ over bins of (share of the examples) · |accuracy − mean confidence|.

        Raises:
            ValueError: nothing was counted yet.

        Example:
            >>> p = np.array([[0.8, 0.2], [0.8, 0.2]])
            >>> round(CalibrationStatistics.empty().update(p, np.array([0, 1])).compute(), 6)
            0.3
        """
        check_counted(self.count.sum())
        return float(np.abs(self.correct - self.confidence).sum() / self.count.sum())


def checked_probabilities(probabilities: np.ndarray) -> np.ndarray:
    """Probabilities (n, classes), at least one row, in float64.

    Raises:
        ValueError: another rank, or rows that are not probabilities that sum to one.

    Example:
        >>> checked_probabilities(np.ones((2, 1), np.float32)).dtype
        dtype('float64')
    """
    p = np.asarray(probabilities, np.float64)
    if p.ndim != 2 or not len(p) or not (p.min() >= 0 and np.all(abs(p.sum(axis=1) - 1) < 1e-3)):
        raise errors.invalid(
            "probabilities",
            f"shape {p.shape}" + (f" with rows that sum to {p.sum(-1)}" if p.ndim == 2 else ""),
            "(n, classes) of at least 0 that sum to one in each row",
            "pass probabilities, not logits",
        )
    return p
