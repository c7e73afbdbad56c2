"""What generated images are compared with: real ones, and judges trained on real ones."""

import functools
from typing import TYPE_CHECKING

import numpy as np

from mmdiffusion_jax import data, metrics
from mmdiffusion_jax.modalities import Image, Label

if TYPE_CHECKING:
    from mmdiffusion_jax.experiment import Experiment


class RealData:
    """The real images of an experiment whose primary modality is an image, and their labels.

    Args:
        experiment: from `experiment.build`.
        train: the training split; for the judges and the floor only.
        test: the test split.

    Attributes:
        labels: the names of the label modalities.
        test: {name: (examples, …)}, the test split.
    """

    def __init__(self, experiment: "Experiment", train: data.Source, test: data.Source) -> None:
        modalities = experiment.model.modalities
        self._primary = experiment.model.primary
        self._train, self.test = _all(train), _all(test)
        self._judges: dict[str, metrics.Judge] = {}
        self.labels = [name for name in modalities if isinstance(modalities[name], Label)]

    @staticmethod
    def serves(experiment: "Experiment") -> bool:
        """Whether the experiment's primary modality is an image."""
        return isinstance(experiment.model.modalities[experiment.model.primary], Image)

    @functools.cached_property
    def floor(self) -> float:
        """The Fréchet distance of training images to test images."""
        return self.frechet(self._train[self._primary])

    def frechet(self, images: np.ndarray) -> float:
        """The Fréchet distance of images (n, …) to test images, of pixels in [−1, 1]."""
        return metrics.frechet_distance(_pixels(images), _pixels(self.test[self._primary]))

    def judge_accuracy(self, name: str) -> float:
        """The accuracy of the judge of one label modality on test images."""
        return self.agreement(name, self.test[self._primary], self.test[name])

    def agreement(self, name: str, images: np.ndarray, labels: np.ndarray) -> float:
        """The share of images (n, …) that the judge of a label modality gives these labels (n,)."""
        return metrics.agreement(self._judge(name).predict(images), labels)

    def _judge(self, name: str) -> metrics.Judge:
        if name not in self._judges:
            train = self._train
            self._judges[name] = metrics.fit_judge(train[self._primary], train[name])
        return self._judges[name]


def _all(source: data.Source) -> dict[str, np.ndarray]:
    return source.take(np.arange(len(source)))


def _pixels(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1).astype(np.float64) / 127.5 - 1
