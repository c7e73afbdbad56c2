"""An independent judge of images: a support vector machine on raw pixels."""

import dataclasses
from typing import Any

import numpy as np

from mmdiffusion_jax import errors


@dataclasses.dataclass(frozen=True)
class Judge:
    """A fitted classifier of uint8 images."""

    classifier: Any

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Class indices (n,) of images (n, height, width, channels) uint8."""
        return self.classifier.predict(_features(images))


def fit_judge(images: np.ndarray, labels: np.ndarray) -> Judge:
    """Fits an RBF support vector machine to real images (n, height, width, channels) uint8.

    The labels (n,) are class indices, of two classes or more.

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
    return Judge(SVC(C=10.0, gamma="scale").fit(_features(images), labels))


def _features(images: np.ndarray) -> np.ndarray:
    return np.asarray(images).reshape(len(images), -1) / 255.0
