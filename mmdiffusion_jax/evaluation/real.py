"""The real examples that samples are compared with, their features, and judges trained on them."""

import contextlib
import dataclasses
import functools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeGuard

import numpy as np
from absl import logging

from mmdiffusion_jax import data, errors, metrics
from mmdiffusion_jax.experiment import Experiment
from mmdiffusion_jax.metrics import EFFICIENTNET
from mmdiffusion_jax.modalities import FeatureNetwork

PIXELS, CLASSIFIER = "pixels", "classifier"
"""Features of images: their own pixels, or those of a classifier trained on the data at hand."""

# Where the data have no label modality, a column of this name serves the judges.
_LABEL = "label"

# Of so many training images at most, and test images, the features of a large network are computed.
_MOST = 5000
# The floor is a mean over so many sets of training images at most.
_SETS = 4

# Of test examples whose class none of the first has: above it these are no fair part.
_MISSED_SHARE = 0.1


class RealData:
    """The real examples of an experiment whose primary modality is an image.

    Judges, which are classifiers, and features are fitted to training examples when they are first
    needed, with fixed seeds, and applied to test examples and samples. An example counts where all
    modalities that a figure needs are present. EfficientNet, which is slow, sees 5,000 training and
    5,000 test images at most, the first of a permutation that is always the same.

    Args:
        experiment: of several that are compared, the one with most modalities.
        train: the training split.
        test: the test split.

    Attributes:
        primary: the name of the primary modality.
        modalities: {name: modality} of the experiment.
        labels: the names of the columns with class indices that judges predict.
        test: {column: (examples, …)}, the test split with its masks.
        num_samples: how many samples are drawn.

    Raises:
        ValueError: a primary modality that is no image.
    """

    def __init__(self, experiment: Experiment, train: data.Source, test: data.Source) -> None:
        if not self.serves(experiment):
            raise errors.invalid(
                "workdir",
                f"the primary modality {experiment.model.primary!r}, which is no image",
                "an image, whose features can be compared",
                "evaluate an experiment with a primary image",
            )
        self.primary = experiment.model.primary
        self.modalities = experiment.model.modalities
        self.labels = [name for name, kind in self.modalities.items() if kind.num_labels]
        shape, dtype = train.columns.get(_LABEL, ((0,), np.dtype(np.float32)))
        if not self.labels and shape == () and dtype.kind in "iu" and _LABEL in test.columns:
            self.labels = [_LABEL]
        names = {*self.modalities, *self.labels}
        self._train, self.test = (self._columns(split, names) for split in (train, test))
        self._kind = experiment.evaluation.features
        self.num_samples = experiment.evaluation.num_samples
        self._judge_steps = experiment.evaluation.judge_steps
        self._lpips_files = experiment.evaluation.lpips
        self._embedder = experiment.settings.data.embedder
        self._last: tuple[np.ndarray, np.ndarray] | None = None
        self._floors: dict[int, float] = {}
        self._accuracies: dict[tuple[str, str], float] = {}
        self._judges: dict[tuple[str, str], metrics.Judge | metrics.SmallClassifier] = {}

    @staticmethod
    def serves(experiment: Experiment) -> bool:
        """Whether the experiment's primary modality is an image."""
        return experiment.model.modalities[experiment.model.primary].is_image

    def _columns(self, source: data.Source, names: Iterable[str]) -> dict[str, np.ndarray]:
        columns = data.select(source.take(np.arange(len(source))), names)
        for name, x in columns.items():
            # Pixels in 0 … 255 of any width; networks of images take bytes.
            if name in self.modalities and self.modalities[name].is_image and x.dtype.kind in "iu":
                columns[name] = x.astype(np.uint8, copy=False)
        return columns

    def check(self) -> None:
        """Tries networks from files on one image, before samples are drawn for them.

        Test data that are sorted by class, so that the first of them have a part of the classes
        alone, are a warning.

        Raises:
            ValueError: files that are missing or damaged, or networks that do not take the images.
        """
        self._warn_of_order()
        kinds = self.modalities.values()
        images = self.test_of(self.primary)[0][:1]
        if self._kind not in (PIXELS, CLASSIFIER):
            with _naming("evaluation.features", self._kind):
                network = self.network
                if len(images) and network is not None:
                    network.features(images)
        if self._lpips_files and any(kind.is_partial_view for kind in kinds):
            with _naming("evaluation.lpips", self._lpips_files[0]):
                lpips = self.lpips
                if len(images) and lpips is not None:
                    lpips.distance(images / 127.5 - 1, images / 127.5 - 1)
        if self._embedder and any(kind.is_embedding for kind in kinds):
            with _naming("data.embedder", self._embedder):
                embedder = self.embedder
                if len(images):
                    embedder.features(images)
            if self.features_if_any == embedder.identity:
                logging.warning(
                    "The embeddings and the features of the evaluation are of one network, %s: "
                    "images that follow their embedding are near to real ones by these features.",
                    self.features_name,
                )

    def _warn_of_order(self) -> None:
        for label in self.labels:
            (classes,) = self.test_of(label)
            first = classes[: self.num_samples]
            share = float(np.mean(~np.isin(classes, first))) if len(classes) else 0.0
            if share > _MISSED_SHARE:
                logging.warning(
                    "Of all test examples %.0f %% have a %r that the first %d, which are judged, "
                    "have not: shuffle the test data.",
                    100 * share,
                    label,
                    len(first),
                )

    @functools.cached_property
    def network(self) -> FeatureNetwork | None:
        """The network of the features; None where they are pixels."""
        if self._kind == PIXELS:
            return None
        if self._kind == EFFICIENTNET:
            return metrics.EfficientNetFeatures.from_package()
        if self._kind != CLASSIFIER:
            if self._kind.endswith(".safetensors"):
                return metrics.SmallClassifier.load(self._kind)
            return metrics.InceptionFeatures.from_file(self._kind)
        return self._fit_classifier(*self._targets())

    @property
    def features_name(self) -> str:
        """The identity of the features: figures of different features must never be compared."""
        return PIXELS if self.network is None else self.network.identity

    @property
    def features_if_any(self) -> str:
        """The same, or "none" where a classifier has nothing to learn from in these data."""
        try:
            return self.features_name
        except ValueError:
            if self._kind != CLASSIFIER:
                raise
            return "none"

    @functools.cached_property
    def embedder(self) -> metrics.Embedder:
        """The network that the embeddings in the data come from.

        Raises:
            ValueError: none is named.
        """
        if not self._embedder:
            raise errors.invalid(
                "config.data.embedder",
                "nothing",
                "the name or the file of the network that the embeddings come from",
                "name it to have samples judged by it",
            )
        return metrics.read_embedder(self._embedder)

    def embed(self, images: np.ndarray) -> np.ndarray:
        """The embeddings (n, …) of images (n, …) by the embedder."""
        return self.embedder.features(images)

    @functools.cached_property
    def lpips(self) -> metrics.LPIPS | None:
        """LPIPS by the weights of `evaluation.lpips`; None without."""
        return metrics.LPIPS.from_files(*self._lpips_files) if self._lpips_files else None

    def floor(self, count: int) -> float:
        """The Fréchet distance of `count` training images to the test images.

        It is the mean over as many disjoint sets of so many as there are, four at most. The fewer
        images there are in a set, the larger its distance, so that samples can only be held
        against as many real ones.

        Raises:
            ValueError: fewer training images than that, or both splits hold the same images.
        """
        if count not in self._floors:
            if self._splits_are_one:
                raise errors.invalid(
                    "test data",
                    "the images of the training data",
                    "others, whose distance to the training images is the floor",
                    "hold out a test split",
                )
            sets = self._train_sets(count)
            self._floors[count] = float(np.mean([self.frechet(each) for each in sets]))
        return self._floors[count]

    @property
    def _splits_are_one(self) -> bool:
        (train,), (test,) = self.train_of(self.primary), self.test_of(self.primary)
        if len(train) != len(test):
            return False
        return sorted(x.tobytes() for x in train) == sorted(x.tobytes() for x in test)

    def _train_sets(self, count: int) -> Iterator[np.ndarray]:
        """The features of disjoint sets of so many training images."""
        (images,) = self.train_of(self.primary)
        if not 1 <= count <= (most := self.most_for_floor):
            raise errors.invalid("count", count, f"1 … {most} training images", "change it")
        if self._kind == EFFICIENTNET:
            x = self._train_features
        else:
            order = np.random.default_rng(0).permutation(len(images))
            x = self.features(images[order[: _SETS * count]])
        for start in range(0, len(x) - count + 1, count)[:_SETS]:
            yield x[start : start + count]

    @functools.cached_property
    def _train_features(self) -> np.ndarray:
        """Those of a large network, which the floor and the judge of labels share."""
        (images,) = self.train_of(self.primary)
        return self.features(_few(images))

    @property
    def _cuts_test(self) -> bool:
        """Whether there are more test images than a large network has time for."""
        count = int(data.present(self.test, [self.primary]).sum())
        return self._kind == EFFICIENTNET and count > _MOST

    def frechet_ratio(self, features: np.ndarray) -> float:
        """The Fréchet distance of features (n, …) over the floor of as many training images.

        Of more samples than there are training images, those of the floor, the first count.

        Raises:
            ValueError: both splits hold the same images, so that there is no floor.
        """
        count = min(len(features), self.most_for_floor)
        floor = self.floor(count)
        return self.frechet(features[:count]) / floor

    @property
    def most_for_floor(self) -> int:
        """How many training images a floor can be of."""
        count = int(data.present(self._train, [self.primary]).sum())
        return min(count, _MOST) if self._kind == EFFICIENTNET else count

    @functools.cached_property
    def _test_features(self) -> np.ndarray:
        (images,) = self.test_of(self.primary)
        return self.features(_few(images) if self._cuts_test else images)

    def test_of(self, *names: str) -> tuple[np.ndarray, ...]:
        """The values (n, …) of some columns in the test examples that have all of them."""
        return _together(self.test, *names)

    def train_of(self, *names: str) -> tuple[np.ndarray, ...]:
        """The same of the training examples."""
        return _together(self._train, *names)

    def features(self, images: np.ndarray) -> np.ndarray:
        """The features (n, …) of images (n, …): pixels in [−1, 1], or those of the network.

        Those of the last images are kept, as several figures in a row ask for them.
        """
        if self.network is None:
            return images.reshape(len(images), -1).astype(np.float64) / 127.5 - 1
        if self._last is None or self._last[0] is not images:
            self._last = images, self.network.features(images)
        return self._last[1]

    def frechet(self, features: np.ndarray) -> float:
        """The Fréchet distance of features (n, …) to those of test images."""
        return metrics.frechet_distance(features, self._test_features)

    def frechet_within_class(self, label: str, features: np.ndarray, classes: np.ndarray) -> float:
        """The mean over classes of the Fréchet distance within a class.

        Sets of few examples are biased upwards, so that only figures of equal numbers compare.

        Args:
            label: the column of the classes.
            features: of images (n, …).
            classes: of the same images, (n,).

        Returns:
            The mean of the distances of features of each class of the test examples to the test
            images of that class.

        Raises:
            ValueError: a class of which there are fewer than two images.
        """
        rows = data.present(self.test, [self.primary])
        known = data.present(self.test, [label])[rows]
        labels = self.test[label][rows]
        if self._cuts_test:
            known, labels = _few(known), _few(labels)
        labels, theirs = labels[known], self._test_features[known]
        distances = []
        for each in np.unique(labels):
            pair = features[classes == each], theirs[labels == each]
            if min(map(len, pair)) < 2:
                raise errors.invalid(
                    "samples",
                    f"{len(pair[0])} images of the class {each} beside {len(pair[1])} real ones",
                    "two or more of each",
                    "draw more, by evaluation.num_samples",
                )
            distances.append(metrics.frechet_distance(*pair))
        if not distances:
            raise ValueError(f"no test image has a {label!r}")
        return float(np.mean(distances))

    def precision_recall(self, features: np.ndarray) -> tuple[float, float]:
        """Precision and recall of features (n, …) against as many test images, at most all.

        The features that count are those of `comparable`.
        """
        features = self.comparable(features)
        return metrics.precision_recall(self._test_features[: len(features)], features)

    def comparable(self, features: np.ndarray) -> np.ndarray:
        """The features of samples, no more than test images where a large network sees but some."""
        return features[: len(self._test_features)] if self._cuts_test else features

    def agreement(self, label: str, name: str, values: np.ndarray, labels: np.ndarray) -> float:
        """The share of values (n, …) of a modality for which its judge predicts the labels (n,)."""
        return metrics.agreement(self.predict(label, name, values), labels)

    def judge_accuracy(self, label: str, name: str) -> float:
        """The share of `judged` examples whose label the judge of a modality tells."""
        if (label, name) not in self._accuracies:
            judge, (values, labels) = self._judge(label, name), self.judged(label, name)
            if isinstance(judge, metrics.Judge) and self._reads_features(name):
                x = self._features_with(label, self.test, self._cuts_test)
                predicted = judge.classifier.predict(x)
            else:
                predicted = judge.predict(_bounded(values))
            self._accuracies[label, name] = metrics.agreement(predicted, labels)
        return self._accuracies[label, name]

    def judged(self, label: str, name: str) -> tuple[np.ndarray, np.ndarray]:
        """The values (n, …) and the labels (n,) of the test examples that a judge is tried on."""
        values, labels = self.test_of(name, label)
        if self._reads_features(name) and self._cuts_test:
            return _few(values), _few(labels)
        return values, labels

    def predict(self, label: str, name: str, values: np.ndarray) -> np.ndarray:
        """The class indices (n,) that the judge of a label and a modality predicts of values."""
        return self._judge(label, name).predict(_bounded(values))

    def _judge(self, label: str, name: str) -> metrics.Judge | metrics.SmallClassifier:
        if (label, name) not in self._judges:
            self._judges[label, name] = self._fit(label, name)
        return self._judges[label, name]

    def _reads_features(self, name: str) -> bool:
        """Whether the judges of a modality read the features of a large network."""
        return self._kind == EFFICIENTNET and name == self.primary

    def _features_with(
        self, label: str, columns: Mapping[str, np.ndarray], cut: bool = True
    ) -> np.ndarray:
        """The features (n, …) of the labelled images of a split, by a large network.

        They are those of all its images where each has the label, computed once.
        """
        labelled, every = (
            _together(columns, *names)[0] for names in ((self.primary, label), (self.primary,))
        )
        if len(labelled) == len(every):
            return self._test_features if columns is self.test else self._train_features
        return self.features(_few(labelled) if cut else labelled)

    def _fit(self, label: str, name: str) -> metrics.Judge | metrics.SmallClassifier:
        values, labels = self.train_of(name, label)
        if self._kind == PIXELS:
            return metrics.fit_judge(_bounded(values), labels)
        if self._reads_features(name):
            x = self._features_with(label, self._train)
            judge = metrics.fit_judge(_few(values), _few(labels), lambda _: x)
            return dataclasses.replace(judge, features=self.features)
        network = self.network
        if name == self.primary and label == self.labels[0] and self._tells_classes(network):
            return network
        return self._fit_classifier(_bounded(values), labels)

    def _fit_classifier(self, values: np.ndarray, labels: np.ndarray) -> metrics.SmallClassifier:
        return metrics.fit_classifier(values, labels, num_steps=self._judge_steps)

    @staticmethod
    def _tells_classes(network: Any) -> TypeGuard[metrics.SmallClassifier]:
        return isinstance(network, metrics.SmallClassifier) and not network.sizes.multi_label

    def _targets(self) -> tuple[np.ndarray, np.ndarray]:
        """Images and the classes that the feature network learns: labels, or those in a mask."""
        if self.labels:
            images, labels = self.train_of(self.primary, self.labels[0])
            return images, labels
        for name, modality in self.modalities.items():
            images, values = self.train_of(self.primary, name)
            if (classes := modality.classes_in(values)) is not None:
                return images, classes
        raise errors.invalid(
            "evaluation.features",
            f"{CLASSIFIER!r}, with neither labels nor masks in the data",
            "something to tell images apart by",
            f"give the data a column {_LABEL!r}, or choose {PIXELS!r}",
        )


@contextlib.contextmanager
def _naming(option: str, value: str) -> Iterator[None]:
    """Gives the errors of a block the name of the option that is at fault."""
    try:
        yield
    except ValueError as error:
        raise errors.invalid(
            f"config.{option}",
            f"{value!r} ({error})",
            "what reads the images of these data",
            "choose another",
        ) from error


def _together(columns: Mapping[str, np.ndarray], *names: str) -> tuple[np.ndarray, ...]:
    """The values of the named columns in the examples that have all of them."""
    rows = data.present(columns, names)
    return tuple(columns[name][rows] for name in names)


def _few(x: np.ndarray) -> np.ndarray:
    """As many rows (n, …) as there is time for, always the same ones."""
    return x[np.random.default_rng(0).permutation(len(x))[:_MOST]]


def _bounded(values: np.ndarray) -> np.ndarray:
    """Floats kept within the range of the data, [−1, 1]."""
    return np.clip(values, -1, 1) if values.dtype.kind == "f" else values
