"""What samples are compared with: real examples, features of them, and judges trained on them."""

import functools
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from mmdiffusion_jax import data, errors, metrics
from mmdiffusion_jax.modalities import Audio, Image, Label, Segmentation

if TYPE_CHECKING:
    from mmdiffusion_jax.experiment import Experiment

PIXELS, CLASSIFIER = "pixels", "classifier"
"""Features of images: their own pixels, or those of a classifier trained on the data at hand."""

# Where the data have no label modality, a column of this name serves the judges.
_LABEL = "label"


class RealData:
    """The real examples of an experiment whose primary modality is an image.

    Judges and features see training examples only; what they are asked about are test examples and
    samples. They are fitted when they are first needed, with fixed seeds.

    Args:
        experiment: from `experiment.build`; of several to compare, the one with most modalities.
        train: the training split.
        test: the test split.

    Attributes:
        primary: the name of the primary modality.
        modalities: {name: modality} of the experiment.
        labels: the names of the columns with class indices that the judges can tell.
        test: {column: (examples, …)}, the test split.

    Raises:
        ValueError: a primary modality that is no image.
    """

    def __init__(self, experiment: "Experiment", train: data.Source, test: data.Source) -> None:
        if not self.serves(experiment):
            raise ValueError(
                errors.message(
                    "workdir",
                    f"the primary modality {experiment.model.primary!r}, which is no image",
                    "an image, whose features can be compared",
                    "evaluate an experiment with a primary image",
                )
            )
        self.primary = experiment.model.primary
        self.modalities = experiment.model.modalities
        self._train, self.test = _all(train), _all(test)
        self._kind = experiment.evaluation.features
        self._judge_steps = experiment.evaluation.judge_steps
        self._lpips_files = experiment.evaluation.lpips
        self._embedder_file = experiment.config.data.embedder
        self._judges: dict[tuple[str, str], metrics.Judge | metrics.SmallClassifier] = {}
        self.labels = [n for n, kind in self.modalities.items() if isinstance(kind, Label)]
        if not self.labels and train.columns.get(_LABEL, ((0,),))[0] == ():
            self.labels = [_LABEL]

    @staticmethod
    def serves(experiment: "Experiment") -> bool:
        """Whether the experiment's primary modality is an image."""
        return isinstance(experiment.model.modalities[experiment.model.primary], Image)

    @functools.cached_property
    def network(self) -> metrics.SmallClassifier | metrics.InceptionFeatures | None:
        """The network of the features; None where they are pixels."""
        if self._kind == PIXELS:
            return None
        if self._kind != CLASSIFIER:
            if self._kind.endswith(".safetensors"):
                return metrics.SmallClassifier.load(self._kind)
            return metrics.InceptionFeatures.from_file(self._kind)
        return self._fit_classifier(self._train[self.primary], self._targets())

    @property
    def features_name(self) -> str:
        """What the features are: figures of different names must never be compared."""
        return PIXELS if self.network is None else self.network.identity

    @functools.cached_property
    def embedder(self) -> metrics.SmallClassifier:
        """The network that the embeddings in the data come from."""
        return metrics.SmallClassifier.load(self._embedder_file)

    @functools.cached_property
    def lpips(self) -> metrics.LPIPS | None:
        """LPIPS by the weights of `evaluation.lpips`; None without."""
        return metrics.LPIPS.from_files(*self._lpips_files) if self._lpips_files else None

    @functools.cached_property
    def floor(self) -> float:
        """The Fréchet distance of training images to test images."""
        return self.frechet(self.features(self._train[self.primary]))

    @functools.cached_property
    def _test_features(self) -> np.ndarray:
        return self.features(self.test[self.primary])

    def features(self, images: np.ndarray) -> np.ndarray:
        """The features (n, …) of images (n, …): pixels in [−1, 1], or those of the network."""
        if self.network is not None:
            return self.network.features(images)
        return images.reshape(len(images), -1).astype(np.float64) / 127.5 - 1

    def frechet(self, features: np.ndarray) -> float:
        """The Fréchet distance of features (n, …) to those of test images."""
        return metrics.frechet_distance(features, self._test_features)

    def precision_recall(self, features: np.ndarray) -> tuple[float, float]:
        """Precision and recall of features (n, …) against as many test images, at most all."""
        return metrics.precision_recall(self._test_features[: len(features)], features)

    def has_judge(self, name: str) -> bool:
        """Whether judges read labels off this modality: the primary, and audio."""
        return name == self.primary or isinstance(self.modalities[name], Audio)

    def judge_accuracy(self, label: str, name: str) -> float:
        """The accuracy on test examples of the judge that reads a label off a modality."""
        return self.agreement(label, name, self.test[name], self.test[label])

    def agreement(self, label: str, name: str, values: np.ndarray, labels: np.ndarray) -> float:
        """The share of values (n, …) of a modality whose judge reads these labels (n,)."""
        return metrics.agreement(self.read(label, name, values), labels)

    def read(self, label: str, name: str, values: np.ndarray) -> np.ndarray:
        """What the judge of (label, modality) reads off values (n, …): (n,) class indices."""
        if (label, name) not in self._judges:
            self._judges[label, name] = self._fit(label, name)
        return self._judges[label, name].predict(_bounded(values))

    def _fit(self, label: str, name: str) -> metrics.Judge | metrics.SmallClassifier:
        values, labels = _bounded(self._train[name]), self._train[label]
        if self._kind == PIXELS:
            return metrics.fit_judge(values, labels)
        network = self.network
        if name == self.primary and label == self.labels[0] and self._tells_classes(network):
            return network
        return self._fit_classifier(values, labels)

    def _fit_classifier(self, values: np.ndarray, labels: np.ndarray) -> metrics.SmallClassifier:
        return metrics.fit_classifier(values, labels, num_steps=self._judge_steps)

    @staticmethod
    def _tells_classes(network: Any) -> TypeGuard[metrics.SmallClassifier]:
        return isinstance(network, metrics.SmallClassifier) and not network.sizes.multi_label

    def _targets(self) -> np.ndarray:
        """What the network of the features learns to tell: classes, or what a scene shows."""
        if self.labels:
            return self._train[self.labels[0]]
        for name, modality in self.modalities.items():
            if isinstance(modality, Segmentation):
                masks = self._train[name].reshape(len(self._train[name]), -1)
                return (masks[..., None] == np.arange(modality.num_classes)).any(axis=1)
        raise ValueError(
            errors.message(
                "evaluation.features",
                f"{CLASSIFIER!r}, with neither labels nor masks in the data",
                "something to tell images apart by",
                f"give the data a column {_LABEL!r}, or choose {PIXELS!r}",
            )
        )


def _all(source: data.Source) -> dict[str, np.ndarray]:
    return source.take(np.arange(len(source)))


def _bounded(values: np.ndarray) -> np.ndarray:
    """Floats kept within the range of the data, [−1, 1]."""
    return np.clip(values, -1, 1) if values.dtype.kind == "f" else values
