"""Likelihoods of held-out examples: the losses, the bound, the flow, and labels by their scores."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from mmdiffusion_jax import data, objective

if TYPE_CHECKING:
    from mmdiffusion_jax.experiment import Experiment


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
            values.pop("worst_t", None)
            for name, value in values.items():
                totals[name] = totals.get(name, 0.0) + here * float(value)
        return {name: total / count for name, total in totals.items()}

    return evaluate_loss


def bound_on(experiment: "Experiment", params: Any, source: data.Source) -> dict[str, float]:
    """The bound's four terms in nats per example, and bits per dimension, summed over all t.

    Args:
        experiment: from `experiment.build`.
        params: parameters.
        source: the examples to evaluate on; the first `num_scored` are.

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

    means = _mean_over(terms, experiment, params, _first(experiment, source))
    total = sum(means.values())
    return {
        **{f"bound/{name}": value for name, value in means.items()},
        "bound/total": total,
        "bits_per_dim": total / (_dims(experiment) * float(np.log(2))),
    }


def flow_on(experiment: "Experiment", params: Any, source: data.Source) -> dict[str, float]:
    """Bits per dimension by the probability flow, a second opinion beside the bound's.

    The backbone computes in float32 for it, whatever it was trained in.

    Args:
        experiment: from `experiment.build`.
        params: parameters.
        source: the examples to evaluate on; the first `num_scored` are.

    Returns:
        `flow/bits_per_dim`, over all dimensions of all modalities.
    """

    def nats(key: jax.Array, params: Any, batch: Mapping[str, jax.Array]) -> Any:
        values, presence = objective.split_presence(batch)
        functions = experiment.model.in_float32().functions(params)
        found = objective.flow_bound(
            key, experiment.schedule, experiment.weights, functions, values, presence
        )
        return {"flow": found}

    mean = _mean_over(nats, experiment, params, _first(experiment, source))["flow"]
    return {"flow/bits_per_dim": mean / (_dims(experiment) * float(np.log(2)))}


def labels_by_scoring(
    experiment: "Experiment", params: Any, source: data.Source, name: str
) -> float:
    """The accuracy of the labels under which the bound of a test example is best.

    Args:
        experiment: from `experiment.build`.
        params: parameters.
        source: the examples to evaluate on; the first `num_scored` are, with all their other
            modalities.
        name: a label modality.

    Returns:
        A share in [0, 1].
    """
    modality = experiment.model.modalities[name]
    candidates = jnp.arange(modality.num_classes)
    total = experiment.schedule.num_steps
    count = min(experiment.evaluation.scoring_steps, total)
    times = np.round(np.linspace(1, total, count)).astype(np.int32)

    def right(key: jax.Array, params: Any, batch: Mapping[str, jax.Array]) -> Any:
        values, presence = objective.split_presence(batch)
        truth = values[name]
        others = {other: x for other, x in values.items() if other != name}
        functions = experiment.model.functions(params)
        scores = objective.candidate_log_probs(
            key, experiment.schedule, experiment.weights, functions, others, name, candidates,
            times, presence,
        )  # fmt: skip
        return {"right": jnp.argmax(scores, axis=1) == truth}

    return _mean_over(right, experiment, params, _first(experiment, source))["right"]


def _first(experiment: "Experiment", source: data.Source) -> data.Source:
    count = min(experiment.evaluation.num_scored, len(source))
    return data.Subset(source, np.arange(count))


def _dims(experiment: "Experiment") -> int:
    return sum(modality.num_dims for modality in experiment.model.modalities.values())


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
