"""An independent judge of images: a support vector machine on pixels or other features."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from mmdiffusion_jax import errors


@dataclasses.dataclass(frozen=True)
class Judge:
    """A fitted classifier of uint8 images, and the features that it reads."""

    classifier: Any
    features: Callable[[np.ndarray], np.ndarray]

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Class indices (n,) of images (n, height, width, channels) uint8."""
        return self.classifier.predict(self.features(images))


def _pixels(images: np.ndarray) -> np.ndarray:
    return np.asarray(images).reshape(len(images), -1) / 255.0


def fit_judge(
    images: np.ndarray, labels: np.ndarray, features: Callable[[np.ndarray], np.ndarray] = _pixels
) -> Judge:
    """Fits an RBF support vector machine to real images (n, height, width, channels) uint8.

    The labels (n,) are class indices, of two classes or more. What it reads are the features
    (n, …) of images, their pixels over 255 if left out.

    Raises:
        ValueError: another number of labels than of images, or one class alone.

    Example:
        >>> images = np.array([0, 9, 250, 255], np.uint8).reshape(4, 1, 1, 1)
        >>> fit_judge(images, np.array([0, 0, 1, 1])).predict(images).tolist()
        [0, 0, 1, 1]
    """
    from sklearn.svm import SVC

    if len(images) != len(labels) or len(np.unique(labels)) < 2:
        raise errors.invalid(
            "labels",
            f"{len(labels)} labels of {len(np.unique(labels))} classes",
            f"{len(images)} labels, one an image, of two classes or more",
            "pass the whole training split",
        )
    return Judge(SVC(C=10.0, gamma="scale").fit(features(images), labels), features)
