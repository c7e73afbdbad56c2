"""Segmentation by a streaming confusion matrix: pixel accuracy and mean intersection over union."""

import dataclasses
from typing import Self

import jax
import numpy as np

from mmdiffusion_jax import errors, ranges
from mmdiffusion_jax.metrics.statistics import Sums


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ConfusionStatistics(Sums):
    """How many pixels of each true class were given each class.

    Attributes:
        matrix: (classes, classes) int64, rows are the truth, columns the prediction.
    """

    matrix: np.ndarray

    @classmethod
    def empty(cls, num_classes: int) -> Self:
        """Before the first pixel.

        Raises:
            ValueError: fewer than two classes.
        """
        ranges.check_whole("num_classes", num_classes, 2)
        return cls(np.zeros((num_classes, num_classes), np.int64))

    def update(self, truth: np.ndarray, predicted: np.ndarray, void: int | None = None) -> Self:
        """With more pixels.

        Args:
            truth: class indices of any shape.
            predicted: class indices of the same shape.
            void: the class of pixels that do not count, where it is the truth and whatever was
                predicted there. It may lie outside the classes.

        Raises:
            ValueError: different shapes, or classes outside 0 … classes − 1 where pixels count.

        Example:
            >>> counted = ConfusionStatistics.empty(2)
            >>> truth, predicted = np.array([[0, 1, 255]]), np.array([[0, 0, 1]])
            >>> counted.update(truth, predicted, void=255).matrix.tolist()
            [[1, 0], [1, 0]]
        """
        truth, predicted = np.asarray(truth), np.asarray(predicted)
        if truth.shape != predicted.shape:
            raise errors.invalid(
                "predicted",
                f"shape {predicted.shape}",
                f"{truth.shape}, as the truth has",
                "pass one class a pixel",
            )
        classes = len(self.matrix)
        counts = np.ones(truth.shape, bool) if void is None else truth != void
        for argument, x in (("truth", truth[counts]), ("predicted", predicted[counts])):
            if x.size and (x.dtype.kind not in "iu" or x.min() < 0 or x.max() >= classes):
                raise errors.invalid(
                    argument,
                    f"{x.dtype} values in {x.min()} … {x.max()}",
                    f"whole numbers in 0 … {classes - 1}",
                    "name another number of classes, or the void one",
                )
        pairs = truth[counts].astype(np.int64) * classes + predicted[counts].astype(np.int64)
        return self.merge(
            type(self)(np.bincount(pairs, minlength=classes**2).reshape(classes, classes))
        )

    def pixel_accuracy(self) -> float:
        """The share of counted pixels that were given their class; NaN before the first."""
        total = self.matrix.sum()
        return float(np.trace(self.matrix) / total) if total else float("nan")

    def iou(self) -> np.ndarray:
        """Intersection over union of each class (classes,); NaN where neither side has it.

        IoU_k = n_kk / (Σ_j n_kj + Σ_j n_jk − n_kk) (Everingham et al. 2015, section 4.4).

        Example:
            >>> ConfusionStatistics(np.array([[1, 1, 0], [0, 2, 0], [0, 0, 0]])).iou().round(2)
            array([0.5 , 0.67,  nan])
        """
        both = np.diag(self.matrix)
        union = self.matrix.sum(axis=0) + self.matrix.sum(axis=1) - both
        return np.where(union > 0, both / np.maximum(union, 1), np.nan)

    def compute(self) -> float:
        """The mean of `iou` over the classes that either side has; NaN where there are none.

        Example:
            >>> ConfusionStatistics(np.array([[1, 1, 0], [0, 2, 0], [0, 0, 0]])).compute()
            0.583...
        """
        iou = self.iou()
        return float("nan") if np.isnan(iou).all() else float(np.nanmean(iou))
