"""Measures: the figures of a modality's values, and how an evaluation computes them."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from mmdiffusion_jax import metrics

FeatureNetwork = metrics.SmallClassifier | metrics.InceptionFeatures | metrics.EfficientNetFeatures
"""A network of the images' features."""


class Networks(Protocol):
    """The networks of an evaluation, fitted to the training split or read from files."""

    @property
    def network(self) -> FeatureNetwork | None:
        """The network of the images' features; None where pixels are their features."""

    @property
    def lpips(self) -> metrics.LPIPS | None:
        """LPIPS; None without its weights."""

    def embed(self, images: np.ndarray) -> np.ndarray:
        """Images (n, height, width, channels) → the embeddings (n, …) that go with them."""


@dataclasses.dataclass(frozen=True)
class Measure:
    """Figures that are computed together.

    Attributes:
        names: of the figures, keys of `Modality.figures`.
        compute: (generated values (n, …), what they are compared with (n, …), networks) → a value
            for each name, or the one value. A ValueError says why such values have none.

    Example:
        >>> accuracy = Measure(("accuracy",), lambda x, truth, _: metrics.agreement(x, truth))
        >>> accuracy.compute(np.array([1, 2]), np.array([1, 3]), None)
        0.5
    """

    names: tuple[str, ...]
    compute: Callable[[np.ndarray, np.ndarray, Networks], Sequence[float] | float]
