"""Every figure about a trained model, and their table."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from mmdiffusion_jax import data
from mmdiffusion_jax.evaluation.directions import conditional_figures, joint_figures
from mmdiffusion_jax.evaluation.likelihood import bound_on, flow_on, labels_by_scoring
from mmdiffusion_jax.evaluation.real import RealData
from mmdiffusion_jax.modalities import Label

if TYPE_CHECKING:
    from mmdiffusion_jax.experiment import Experiment


def evaluate(
    experiment: "Experiment",
    params: Any,
    train: data.Source,
    test: data.Source,
    real: RealData | None = None,
    look: Callable[[str, Mapping[str, np.ndarray]], None] | None = None,
) -> dict[str, float]:
    """Every figure about a trained model; nothing is measured on training examples.

    Likelihoods of test examples (`likelihood_figures`), unless `evaluation.num_scored` is 0. Where
    the primary modality is an image also figures of samples: of all modalities generated jointly,
    and of all others from each one given (`joint_figures`, `conditional_figures`). Given values are
    test examples, for labels each class in turn.

    Args:
        experiment: from `experiment.build`.
        params: parameters, usually the moving average.
        train: the training split; for judges, features and the floor only.
        test: the test split.
        real: the real data, if they and their judges are at hand.
        look: gets the samples that the figures are about, ("joint" or "given_<name>", {name: x}).

    Returns:
        {figure: value}.
    """
    figures: dict[str, float] = {}
    if experiment.evaluation.num_scored and experiment.formulation == "shared":
        figures |= likelihood_figures(experiment, params, test)
    if real is None:
        if not RealData.serves(experiment):
            return figures
        real = RealData(experiment, train, test)
    for label in real.labels:
        for name in filter(real.has_judge, real.modalities):
            figures[f"judge/{name}_{label}/accuracy"] = real.judge_accuracy(label, name)
    key = jax.random.key(experiment.evaluation.seed)
    count = experiment.evaluation.num_samples
    modalities = experiment.model.modalities
    if experiment.formulation != "predict":
        made = experiment.generate(jax.random.fold_in(key, 0), params, count)
        if look is not None:
            look("joint", made)
        figures |= joint_figures(real, made)
    for index, name in enumerate(modalities, start=1):
        if not _may_be_given_alone(experiment, name):
            continue
        truth = {column: x[:count] for column, x in real.test.items()}
        modality = modalities[name]
        if isinstance(modality, Label):
            truth = {name: (np.arange(count) % modality.num_classes).astype(np.int32)}
        given = {name: truth[name]}
        own = jax.random.fold_in(key, index)
        made = experiment.generate(own, params, len(truth[name]), given)
        if look is not None:
            look(f"given_{name}", made)
        made = {other: x for other, x in made.items() if other != name}
        figures |= conditional_figures(real, name, made, truth)
    return figures


def likelihood_figures(
    experiment: "Experiment", params: Any, test: data.Source
) -> dict[str, float]:
    """The bound's terms, the flow's likelihood, and labels read by their scores.

    Args:
        experiment: from `experiment.build`, in the shared formulation.
        params: parameters.
        test: the test split; its first `evaluation.num_scored` examples are.

    Returns:
        {figure: value}.
    """
    figures = {**bound_on(experiment, params, test), **flow_on(experiment, params, test)}
    for name, modality in experiment.model.modalities.items():
        if isinstance(modality, Label) and name != experiment.model.primary:
            accuracy = labels_by_scoring(experiment, params, test, name)
            figures[f"{name}_by_scoring/accuracy"] = accuracy
    return figures


def table(figures: Mapping[str, float]) -> str:
    """The figures as aligned lines, one a figure.

    Example:
        >>> print(table({"bits_per_dim": 1.25}))
        bits_per_dim  1.2500
    """
    width = max(map(len, figures))
    return "\n".join(f"{name:<{width}}  {value:.4f}" for name, value in figures.items())


def _may_be_given_alone(experiment: "Experiment", name: str) -> bool:
    if experiment.formulation == "predict":
        return tuple(experiment.config.predict.given) == (name,)
    return len(experiment.model.modalities) > 1
