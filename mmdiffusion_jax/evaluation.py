"""Judging a trained model on the test split: the bound, the labels, the samples."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from mmdiffusion_jax import data, errors, metrics, objective
from mmdiffusion_jax.modalities import Image, Label

if TYPE_CHECKING:
    from mmdiffusion_jax.experiment import Experiment


@dataclasses.dataclass(frozen=True)
class EvaluationOptions:
    """How much is evaluated.

    Attributes:
        num_samples: samples drawn for each figure about samples.
        batch_size: test examples at once.
        seed: of every draw in the evaluation.

    Raises:
        ValueError: fewer than 2 samples, or a batch size below 1.
    """

    num_samples: int = 2000
    batch_size: int = 360
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("num_samples", 2), ("batch_size", 1)):
            if getattr(self, name) < least:
                raise ValueError(
                    errors.message(
                        f"evaluation.{name}", getattr(self, name), f"{least} or more", "raise it"
                    )
                )


def evaluate(
    experiment: "Experiment", params: Any, train: data.Source, test: data.Source
) -> dict[str, float]:
    """Every figure about a trained model; nothing is measured on training examples.

    The four terms and bits per dimension of the bound on the test split; for each label modality
    beside a primary image: the accuracy of labels generated from test images, and, by an
    independent classifier trained on real training images, the agreement of joint samples and the
    accuracy of label-conditional samples; Fréchet distances in pixel space (pixels in [−1, 1]) of
    joint samples to test images, beside that of training to test images, its floor.

    Args:
        experiment: from `experiment.build`.
        params: parameters, usually the moving average.
        train: the training split; for the classifier and the floor only.
        test: the test split.

    Returns:
        {figure: value}.
    """
    figures = bound_on(experiment, params, test)
    modalities = experiment.model.modalities
    primary = experiment.model.primary
    if not isinstance(modalities[primary], Image):
        return figures
    key = jax.random.key(experiment.evaluation.seed)
    count = experiment.evaluation.num_samples

    def draw(index: int, number: int, given: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return experiment.generate(jax.random.fold_in(key, index), params, number, given)

    real = {split: _all(source) for split, source in (("train", train), ("test", test))}
    joint = draw(0, count, {})
    figures["joint/frechet"] = metrics.frechet_distance(
        _pixels(joint[primary]), _pixels(real["test"][primary])
    )
    figures["joint/frechet_floor"] = metrics.frechet_distance(
        _pixels(real["train"][primary]), _pixels(real["test"][primary])
    )
    figures["joint/frechet_ratio"] = figures["joint/frechet"] / figures["joint/frechet_floor"]
    labels = [name for name in modalities if isinstance(modalities[name], Label)]
    for index, name in enumerate(labels, start=1):
        judge = metrics.fit_judge(real["train"][primary], real["train"][name])
        truth = real["test"][name]
        figures[f"{name}/judge_accuracy"] = metrics.agreement(
            judge.predict(real["test"][primary]), truth
        )
        figures[f"{name}/joint_agreement"] = metrics.agreement(
            judge.predict(joint[primary]), joint[name]
        )
        asked = (np.arange(count) % modalities[name].num_classes).astype(np.int32)
        made = draw(2 * index, count, {name: asked})
        figures[f"{name}/conditional_accuracy"] = metrics.agreement(
            judge.predict(made[primary]), asked
        )
        figures[f"{name}/frechet_ratio"] = (
            metrics.frechet_distance(_pixels(made[primary]), _pixels(real["test"][primary]))
            / figures["joint/frechet_floor"]
        )
        read = draw(2 * index + 1, len(truth), {primary: real["test"][primary]})
        figures[f"{name}/accuracy_from_{primary}"] = metrics.agreement(read[name], truth)
    return figures


def bound_on(experiment: "Experiment", params: Any, source: data.Source) -> dict[str, float]:
    """The bound's four terms in nats per example, and bits per dimension, summed over all t.

    Args:
        experiment: from `experiment.build`.
        params: parameters.
        source: the examples to evaluate on.

    Returns:
        `bound/prior`, `bound/posterior`, `bound/recovery`, `bound/reconstruction`, `bound/total`
        and `bits_per_dim`, over all dimensions of all modalities.
    """

    def terms(key: jax.Array, params: Any, batch: Mapping[str, jax.Array]) -> Any:
        values, presence = objective.split_presence(batch)
        functions = experiment.model.functions(params)
        found = objective.bound(
            key, experiment.schedule, experiment.weights, functions, values, presence
        )
        return dataclasses.asdict(found)

    means = _mean_over(terms, experiment, params, source)
    total = sum(means.values())
    dims = sum(modality.num_dims for modality in experiment.model.modalities.values())
    return {
        **{f"bound/{name}": value for name, value in means.items()},
        "bound/total": total,
        "bits_per_dim": total / (dims * float(np.log(2))),
    }


def loss_on(experiment: "Experiment", source: data.Source) -> Callable[[Any], dict[str, float]]:
    """The training losses on held-out examples, with the same draws every time; compiled once.

    Args:
        experiment: from `experiment.build`.
        source: the examples to evaluate on.

    Returns:
        parameters → {name: mean}.
    """
    compiled = jax.jit(lambda params, key, batch: experiment.loss(params, key, batch)[1])

    def evaluate_loss(params: Any) -> dict[str, float]:
        key = jax.random.key(experiment.evaluation.seed)
        totals: dict[str, float] = {}
        count = 0
        size = min(experiment.evaluation.batch_size, len(source))
        for index, (batch, valid) in enumerate(data.eval_batches(source, size)):
            if not valid.all():
                batch = {name: x[valid] for name, x in batch.items()}
            values = jax.device_get(compiled(params, jax.random.fold_in(key, index), batch))
            here = int(valid.sum())
            count += here
            for name, value in values.items():
                totals[name] = totals.get(name, 0.0) + here * float(value)
        return {name: total / count for name, total in totals.items()}

    return evaluate_loss


def table(figures: Mapping[str, float]) -> str:
    """The figures as aligned lines, one a figure.

    Example:
        >>> print(table({"bits_per_dim": 1.25}))
        bits_per_dim  1.2500
    """
    width = max(map(len, figures))
    return "\n".join(f"{name:<{width}}  {value:.4f}" for name, value in figures.items())


def _mean_over(
    function: Callable[..., Mapping[str, jax.Array]],
    experiment: "Experiment",
    params: Any,
    source: data.Source,
) -> dict[str, float]:
    compiled = jax.jit(function)
    key = jax.random.key(experiment.evaluation.seed)
    size = min(experiment.evaluation.batch_size, len(source))
    parts: dict[str, list[np.ndarray]] = {}
    for index, (batch, valid) in enumerate(data.eval_batches(source, size)):
        values = jax.device_get(compiled(jax.random.fold_in(key, index), params, batch))
        for name, value in values.items():
            parts.setdefault(name, []).append(value[valid])
    return {name: float(np.concatenate(values).mean()) for name, values in parts.items()}


def _all(source: data.Source) -> dict[str, np.ndarray]:
    return source.take(np.arange(len(source)))


def _pixels(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1).astype(np.float64) / 127.5 - 1
