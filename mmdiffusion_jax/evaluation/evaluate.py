"""Every figure about a trained model, one after another."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from mmdiffusion_jax import data
from mmdiffusion_jax.evaluation.conditional import conditional_figures
from mmdiffusion_jax.evaluation.embedded import Drawn, embedding_figures
from mmdiffusion_jax.evaluation.figure import Figure, left_out
from mmdiffusion_jax.evaluation.joint import joint_figures, judge_figures
from mmdiffusion_jax.evaluation.likelihood import likelihood_figures
from mmdiffusion_jax.evaluation.real import RealData
from mmdiffusion_jax.experiment import Experiment, Generator


def evaluate(
    experiment: Experiment,
    params: Any,
    train: data.Source,
    test: data.Source,
    real: RealData | None = None,
    on_samples: Callable[[str, Mapping[str, np.ndarray]], None] | None = None,
    likelihoods: bool = True,
) -> Iterator[Figure]:
    """Every figure about a trained model, measured on test examples and samples.

    Likelihoods of test examples (`likelihood_figures`), if they are wanted and
    `evaluation.num_scored` is not 0. Where the primary modality is an image also figures of
    samples: of all modalities generated jointly, and of all others from each one given
    (`joint_figures`, `conditional_figures`), and whether an embedding helps images, jointly and of
    given labels (`embedding_figures`). Given values are test examples, for labels each class in
    turn. What is restored from a part of it is also restored by one call, which answers with a
    mean; a draw is farther from the truth. An example counts where all modalities that a figure
    needs are present. Figures are yielded as they are computed; one without a value has a reason.

    Args:
        experiment: the experiment.
        params: parameters, usually the moving average.
        train: the training split, for judges, features and the floor only.
        test: the test split.
        real: real data whose judges are fitted already; left out, they are fitted.
        on_samples: is called with the samples of the figures, ("joint", "given_<name>" or
            "given_<name>_one_call", {name: x}).
        likelihoods: whether likelihoods of test examples are wanted.

    Raises:
        ValueError: features or weights from files that do not take the data's images, before
            anything is computed.
    """
    if real is None and RealData.serves(experiment):
        real = RealData(experiment, train, test)
    if real is not None:
        real.check()
    if likelihoods and experiment.evaluation.num_scored and experiment.formulation.has_bound:
        yield from likelihood_figures(experiment, params, test)
    if real is None:
        primary = experiment.model.primary
        yield from left_out(["samples"], f"the primary modality {primary!r} is no image")
        return
    yield from judge_figures(real)
    key = jax.random.key(experiment.evaluation.seed)
    count = experiment.evaluation.num_samples
    modalities = experiment.model.modalities
    if not experiment.formulation.predicts_from:
        samples = experiment.generate(jax.random.fold_in(key, 0), params, count)
        if on_samples is not None:
            on_samples("joint", samples)
        yield from joint_figures(real, samples)
        joint = Drawn("joint", jax.random.fold_in(key, 0), samples)
        yield from embedding_figures(real, experiment, params, joint)
    if len(sources := experiment.formulation.predicts_from) > 1:
        name = f"{experiment.settings.predict.target}_given_{'_'.join(sources)}"
        yield from left_out([name], "evaluations give one modality at a time")
    for index, name in enumerate(modalities, start=1):
        if not _may_be_given_alone(experiment, name):
            continue
        rows = np.flatnonzero(data.present(real.test, [name]))[:count]
        truth = {column: x[rows] for column, x in real.test.items()}
        if num_labels := modalities[name].num_labels:
            truth = {name: (np.arange(count) % num_labels).astype(np.int32)}
        if not len(truth[name]):
            yield from left_out([f"given_{name}"], f"no test example has {name!r}")
            continue
        given = {name: truth[name]}
        drawn: dict[Generator, Mapping[str, np.ndarray]] = {}
        for way, generate in _ways(experiment, name).items():
            if generate not in drawn:
                samples = generate(jax.random.fold_in(key, index), params, len(truth[name]), given)
                if on_samples is not None:
                    on_samples(f"given_{name}{way and '_'}{way}", samples)
                drawn[generate] = {other: x for other, x in samples.items() if other != name}
            yield from conditional_figures(real, name, drawn[generate], truth, way)
        if num_labels and real.primary in drawn[experiment.generate]:
            prefix = f"{real.primary}_given_{name}"
            source_key = jax.random.fold_in(key, index)
            of_class = Drawn(prefix, source_key, drawn[experiment.generate], given)
            yield from embedding_figures(real, experiment, params, of_class)


def _ways(experiment: Experiment, source: str) -> dict[str, Generator]:
    """How values are generated from a given modality.

    As the config says, and, where it is a part of what is restored, also as a mean, by one call. A
    network that restores and does nothing else has one way.
    """
    ways = {"": experiment.generate}
    model = experiment.model
    if not model.modalities[source].is_partial_view:
        return ways
    if experiment.formulation.predicts_from:
        return {**ways, "one_call": experiment.generate}
    if source in model.shows:
        once = dataclasses.replace(experiment.sampling, num_steps=1)
        ways["one_call"] = experiment.generator(once)
    return ways


def _may_be_given_alone(experiment: Experiment, name: str) -> bool:
    if experiment.formulation.predicts_from:
        return experiment.formulation.predicts_from == (name,)
    return len(experiment.model.modalities) > 1
