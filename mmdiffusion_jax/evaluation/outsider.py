"""A classifier with nothing of ours in it, to hold the predictors of a comparison against."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from mmdiffusion_jax import data
from mmdiffusion_jax.experiment import Experiment

# The training images that a support vector machine sees at most; its time grows with their square.
_MOST = 5000


@dataclasses.dataclass(frozen=True)
class SvmAccuracy:
    """How often a support vector machine on pixels reads a label right.

    Attributes:
        label: the name of the label.
        image: the name of the image that it reads.
        accuracy: on test images, a share in [0, 1].
        num_train: the training images it was fitted to.
        num_test: the test images.

    Example:
        >>> print(SvmAccuracy("label", "image", 0.75, 50, 400))
        A support vector machine on the pixels of 50 training images with their label reads it
        right in 0.750 of 400 test images.
    """

    label: str
    image: str
    accuracy: float
    num_train: int
    num_test: int

    def __str__(self) -> str:
        return (
            f"A support vector machine on the pixels of {self.num_train:,} training images with "
            f"their {self.label} reads it right in {self.accuracy:.3f} of {self.num_test:,} test "
            "images."
        )


def labels_by_svm(
    experiment: Experiment, train: data.Source, test: data.Source
) -> Iterator[SvmAccuracy]:
    """What scikit-learn's support vector machine makes of each label modality.

    Its kernel is radial with the width that scikit-learn calls "scale", and C = 10; nothing is
    tuned. It sees the training images that have their label, the first 5,000 of a fixed
    permutation, and those of the first `evaluation.num_samples` test images. A network that reads
    labels of the same images should do better.

    Args:
        experiment: whose primary modality is an image; of others there is nothing.
        train: the split that predictors are trained on, with what `data.kept` leaves of it.
        test: the test split.

    Example:
        >>> from mmdiffusion_jax.experiment import build, open_data, read_config_file
        >>> config = read_config_file("digits")
        >>> (result,) = labels_by_svm(build(config), *open_data(config))
        >>> result.accuracy > 0.95, result.num_test
        (True, 360)
    """
    from sklearn.svm import SVC

    image = experiment.model.primary
    if not experiment.model.modalities[image].is_image:
        return
    for label, modality in experiment.model.modalities.items():
        if modality.num_labels:
            rows = data.rows_with(train, [image, label])
            rows = np.sort(np.random.default_rng(0).permutation(rows)[:_MOST])
            tested = data.rows_with(test, [image, label])
            tested = tested[tested < experiment.evaluation.num_samples]
            fitted, held = train.take(rows), test.take(tested)
            pixels, truth = _pixels(fitted[image]), np.asarray(fitted[label])
            if len(np.unique(truth)) > 1 and len(held[label]):
                machine = SVC(C=10, gamma="scale").fit(pixels, truth)
                accuracy = float(machine.score(_pixels(held[image]), held[label]))
                yield SvmAccuracy(label, image, accuracy, len(truth), len(held[label]))


def _pixels(images: np.ndarray) -> np.ndarray:
    return np.asarray(images, np.float64).reshape(len(images), -1)
