"""Likelihoods of held-out examples by the bound and the flow, and labels of highest likelihood."""

import dataclasses
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmdiffusion_jax import data, objective, sampling
from mmdiffusion_jax.evaluation.figure import Figure, figures_of
from mmdiffusion_jax.experiment import Experiment
from mmdiffusion_jax.means import join, values
from mmdiffusion_jax.model import Diffusion, split_presence

Terms = Callable[[jax.Array, Any, Mapping[str, jax.Array]], Mapping[str, jax.Array]]
"""(key, parameters, batch) → {name: value of each example (batch,)}."""


def loss_on(experiment: Experiment, source: data.Source) -> Callable[[Any], dict[str, float]]:
    """The training losses on held-out examples, with the same draws every time; compiled once.

    Each term is its mean over the examples that count in it, of all batches together, and the loss
    is the weighted sum of these means. A term in which no example counts is left out.

    Returns:
        parameters → {name: mean}.
    """
    names = experiment.model.modalities
    loss = jax.jit(lambda *arguments: experiment.formulation.loss(*arguments))
    compiled = jax.jit(lambda *arguments: loss(*arguments).means())

    def evaluate_loss(params: Any) -> dict[str, float]:
        key = jax.random.key(experiment.evaluation.seed)
        parts = []
        size = min(experiment.evaluation.batch_size, len(source))
        for index, (batch, valid) in enumerate(data.eval_batches(source, size)):
            batch = {name: x[valid] for name, x in data.select(batch, names).items()}
            parts.append(compiled(params, jax.random.fold_in(key, index), batch))
        stacked = jax.tree.map(lambda *each: np.array(each, np.float64), *jax.device_get(parts))
        counted = {name: mean for name, mean in join(stacked).items() if mean.count}
        if not counted:
            return {}
        # Of the last batch's shapes, for which the loss has been traced already.
        terms = jax.eval_shape(loss, params, key, batch)
        scalars = {"loss": terms.weigh(counted), **values(counted)}
        return {name: float(x) for name, x in scalars.items()}

    return evaluate_loss


def loss_names(experiment: Experiment, source: data.Source) -> set[str]:
    """The names that `loss_on` will give for a source; nothing is computed."""
    names = experiment.model.modalities
    one = data.select(source.take(np.zeros(1, np.int64)), names)
    loss, params = experiment.formulation.loss, experiment.param_shapes
    terms = jax.eval_shape(loss, params, jax.random.key(0), one).terms
    nowhere = {f"{name}/loss" for name in names if not len(data.rows_with(source, [name], 1))}
    return {"loss", *terms} - nowhere


def likelihood_figures(experiment: Experiment, params: Any, test: data.Source) -> Iterator[Figure]:
    """The figures of `bound_on`, `flow_on`, and `labels_by_scoring` for each label modality.

    The formulation of the experiment is the shared one.
    """
    yield from bound_on(experiment, params, test)
    yield from flow_on(experiment, params, test)
    for name, modality in experiment.model.modalities.items():
        if modality.num_labels and name != experiment.model.primary:
            yield from labels_by_scoring(experiment, params, test, name)


class BoundOf:
    """The bound of examples, as `bound_on` averages it; compiled once for each number of a batch.

    Args:
        experiment: with one diffusion space.
        given: the modalities that are given; the bound is that of all others in a joint sample.

    Attributes:
        num_dims: how many dimensions the modalities have whose bound it is.

    Raises:
        ValueError: given modalities that there are not, or nothing that is not given.
    """

    def __init__(self, experiment: Experiment, given: Collection[str] = ()) -> None:
        order, self.num_dims = _chain(experiment, given)
        self._experiment = experiment

        def terms(
            key: jax.Array, params: Any, batch: Mapping[str, jax.Array]
        ) -> dict[str, jax.Array]:
            values, _ = split_presence(batch)  # of the masks, as these examples are whole
            diffusion = Diffusion(experiment.process, experiment.model.functions(params))
            bound = objective.bound(key, diffusion, values, given=given, order=order)
            return dataclasses.asdict(bound)

        self._terms = jax.jit(terms)

    def __call__(self, params: Any, source: data.Source) -> objective.BoundTerms:
        """The terms in nats, arrays (examples,) on the host, of examples with all modalities.

        The noise depends on `evaluation.seed` and on an example's place; `evaluation.batch_size` of
        them are computed at once.
        """
        terms = _values_over(self._terms, self._experiment, params, source)
        return objective.BoundTerms(**terms)  # type: ignore[arg-type]


def bound_on(experiment: Experiment, params: Any, source: data.Source) -> list[Figure]:
    """The bound's four terms in nats per example, and bits per dimension, summed over all t.

    The first `evaluation.num_scored` examples that have all modalities count.

    Returns:
        `bound/prior`, `bound/posterior`, `bound/recovery`, `bound/reconstruction`, `bound/total`
        and `bits_per_dim`, over all dimensions of the modalities that joint samples have.
    """
    rows = _first_rows(experiment, source, experiment.model.modalities)
    parts = ("prior", "posterior", "recovery", "reconstruction")
    names = [*(f"bound/{part}" for part in parts), "bound/total", "bits_per_dim"]
    terms_of = BoundOf(experiment)

    def compute() -> list[float]:
        terms = terms_of(params, data.Subset(source, rows))
        means = [float(np.mean(getattr(terms, part))) for part in parts]
        total = sum(means)
        return [*means, total, total / (terms_of.num_dims * float(np.log(2)))]

    return figures_of(names, len(rows), compute)


def flow_on(experiment: Experiment, params: Any, source: data.Source) -> list[Figure]:
    """Bits per dimension by the probability flow, a second estimate beside the bound.

    The backbone computes in float32 for it, whatever it was trained in. The same examples count as
    for `bound_on`.

    Returns:
        `flow/bits_per_dim`, over the dimensions that `bound_on` counts.
    """

    def nats(key: jax.Array, params: Any, batch: Mapping[str, jax.Array]) -> Any:
        values, _ = split_presence(batch)
        diffusion = Diffusion(experiment.process, experiment.model.in_float32().functions(params))
        flow = objective.flow_bound(key, diffusion, values, order=order)
        return {"flow": flow}

    order, dims = _chain(experiment)
    rows = _first_rows(experiment, source, experiment.model.modalities)

    def compute() -> float:
        mean = _means_over(nats, experiment, params, source, rows)["flow"]
        return mean / (dims * float(np.log(2)))

    return figures_of(["flow/bits_per_dim"], len(rows), compute)


def labels_by_scoring(
    experiment: Experiment, params: Any, source: data.Source, name: str
) -> list[Figure]:
    """The accuracy of the labels under which the bound of a test example is best.

    The first `evaluation.num_scored` examples that have the label and the primary count, each with
    all its other modalities.

    Returns:
        `<name>_by_scoring/accuracy`, a share in [0, 1].
    """
    candidates = jnp.arange(experiment.model.modalities[name].num_labels)
    total = experiment.process.num_steps
    count = min(experiment.evaluation.scoring_steps, total)
    times = np.round(np.linspace(1, total, count)).astype(np.int32)

    def right(key: jax.Array, params: Any, batch: Mapping[str, jax.Array]) -> Any:
        values, presence = split_presence(batch)
        truth = values.pop(name)
        presence.pop(name, None)
        diffusion = Diffusion(experiment.process, experiment.model.functions(params))
        scores = objective.candidate_log_probs(
            key, diffusion, values, name, candidates, times, presence
        )
        return {"right": jnp.argmax(scores, axis=1) == truth}

    rows = _first_rows(experiment, source, (name, experiment.model.primary))
    accuracy = lambda: _means_over(right, experiment, params, source, rows)["right"]  # noqa: E731
    return figures_of([f"{name}_by_scoring/accuracy"], len(rows), accuracy)


def _first_rows(experiment: Experiment, source: data.Source, names: Iterable[str]) -> np.ndarray:
    """The first `num_scored` examples that have all the named modalities."""
    return data.rows_with(source, names, experiment.evaluation.num_scored)


def _chain(experiment: Experiment, given: Collection[str] = ()) -> tuple[list[str], int]:
    """The stages in which samples are drawn, whose chain is bounded, and their dimensions."""
    stages = sampling.stages_of(experiment.model, given, experiment.sampling.order or None)
    names = [name for stage in stages for name in stage]
    dims = sum(experiment.model.modalities[name].num_dims for name in names)
    return [", ".join(stage) for stage in stages], dims


def _means_over(
    function: Terms, experiment: Experiment, params: Any, source: data.Source, rows: np.ndarray
) -> dict[str, float]:
    """{name: mean over the rows} of a function {name: value of each example}."""
    subset = data.Subset(source, rows)
    values = _values_over(jax.jit(function), experiment, params, subset)
    return {name: float(value.mean()) for name, value in values.items()}


def _values_over(
    compiled: Terms, experiment: Experiment, params: Any, source: data.Source
) -> dict[str, np.ndarray]:
    """{name: (examples,)} of a function {name: value of each example}."""
    key = jax.random.key(experiment.evaluation.seed)
    size = min(experiment.evaluation.batch_size, len(source))
    names = experiment.model.modalities
    parts: dict[str, list[np.ndarray]] = {}
    for index, (batch, valid) in enumerate(data.eval_batches(source, size)):
        chosen: dict[str, Any] = data.select(batch, names)
        values = jax.device_get(compiled(jax.random.fold_in(key, index), params, chosen))
        for name, value in values.items():
            parts.setdefault(name, []).append(value[valid])
    return {name: np.concatenate(values) for name, values in parts.items()}
