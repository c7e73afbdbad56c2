"""Every figure about a trained model."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from mmdiffusion_jax import data, metrics
from mmdiffusion_jax.evaluation.likelihood import bound_on, flow_on, labels_by_scoring
from mmdiffusion_jax.evaluation.samples import RealData

if TYPE_CHECKING:
    from mmdiffusion_jax.experiment import Experiment


def evaluate(
    experiment: "Experiment", params: Any, train: data.Source, test: data.Source
) -> dict[str, float]:
    """Every figure about a trained model; nothing is measured on training examples.

    The four terms and bits per dimension of the bound on the test split, and those of the
    probability flow; for each label modality beside a primary image: the accuracy of labels read
    from test images by the head and by scoring every label, and, by an independent classifier
    trained on real training images, the agreement of joint samples and the accuracy of
    label-conditional samples; Fréchet distances in pixel space (pixels in [−1, 1]) of joint
    samples to test images, beside that of training to test images, its floor.

    Args:
        experiment: from `experiment.build`.
        params: parameters, usually the moving average.
        train: the training split; for the classifier and the floor only.
        test: the test split.

    Returns:
        {figure: value}.
    """
    figures = {**bound_on(experiment, params, test), **flow_on(experiment, params, test)}
    if not RealData.serves(experiment):
        return figures
    primary = experiment.model.primary
    real = RealData(experiment, train, test)
    key = jax.random.key(experiment.evaluation.seed)
    count = experiment.evaluation.num_samples

    def draw(index: int, number: int, given: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return experiment.generate(jax.random.fold_in(key, index), params, number, given)

    joint = draw(0, count, {})
    figures["joint/frechet"] = real.frechet(joint[primary])
    figures["joint/frechet_floor"] = real.floor
    figures["joint/frechet_ratio"] = figures["joint/frechet"] / real.floor
    for index, name in enumerate(real.labels, start=1):
        truth = real.test[name]
        num_classes = experiment.model.modalities[name].num_classes
        asked = (np.arange(count) % num_classes).astype(np.int32)
        made = draw(2 * index, count, {name: asked})
        others = {other: x for other, x in real.test.items() if other == primary}
        read = draw(2 * index + 1, len(truth), others)
        figures |= {
            f"{name}/judge_accuracy": real.judge_accuracy(name),
            f"{name}/joint_agreement": real.agreement(name, joint[primary], joint[name]),
            f"{name}/conditional_accuracy": real.agreement(name, made[primary], asked),
            f"{name}/frechet_ratio": real.frechet(made[primary]) / real.floor,
            f"{name}/accuracy_from_{primary}": metrics.agreement(read[name], truth),
            f"{name}/accuracy_by_scoring": labels_by_scoring(experiment, params, test, name),
        }
    return figures


def table(figures: Mapping[str, float]) -> str:
    """The figures as aligned lines, one a figure.

    Example:
        >>> print(table({"bits_per_dim": 1.25}))
        bits_per_dim  1.2500
    """
    width = max(map(len, figures))
    return "\n".join(f"{name:<{width}}  {value:.4f}" for name, value in figures.items())
