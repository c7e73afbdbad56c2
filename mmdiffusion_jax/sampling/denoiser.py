"""Denoisers: what a model, asked about z_t, says the clean state and the encodings are.

Guidance and thresholding are decorators of them, denoiser → denoiser.
"""

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mmdiffusion_jax.process import (
    ModalityWeights,
    ModelFunctions,
    Prediction,
    Schedule,
    ask_modality,
    belief,
    estimate_encodings,
    gate,
    head_of,
)
from mmdiffusion_jax.process.checks import as_key, checked_result, expect, expect_callable
from mmdiffusion_jax.sampling.plan import Clean

ESTIMATES = ("mean", "draw", "moments")
"""How the encoding of an unknown modality is estimated from its head."""

Carried = Mapping[str, jax.Array]


class Reading(NamedTuple):
    """What z_t is taken to be made of.

    Attributes:
        clean: ẑ_0 and Ê_i, (batch, *latent) each; Ê_i = 0 where z_t does not carry i.
        prediction: what the model said, for its heads and its variance.
        spread: {secondary: variance of its encoding (batch, *latent)}, for stochastic steps that
            add it; usually empty.
    """

    clean: Clean
    prediction: Prediction
    spread: Mapping[str, jax.Array] = MappingProxyType({})


Denoiser = Callable[[jax.Array, jax.Array, Carried], Reading]
"""(t (batch,), z_t (batch, *latent), {secondary: (batch,) of 0 or 1, what z_t carries})."""


@dataclasses.dataclass(frozen=True)
class Question:
    """What is asked of a model; what decorators may need to know.

    Attributes:
        schedule: the noise schedule.
        weights: the modality weights.
        model: the model.
        given: {name: x (batch, …)}, the known values.
        known: {name: E(x) (batch, *latent)}, their encodings.
    """

    schedule: Schedule
    weights: ModalityWeights
    model: ModelFunctions
    given: Mapping[str, jax.Array]
    known: Mapping[str, jax.Array]


Decorator = Callable[[Denoiser, Question], Denoiser]


def own_belief(question: Question, keys: jax.Array | None = None) -> Denoiser:
    """The model's own reading, as if nothing were known.

    Args:
        question: the model and its process.
        keys: (batch,) typed keys; given, encodings are those of draws, otherwise means.

    Raises:
        ValueError: no question; when asked, as many keys as examples are wanted, or an answer of
            the model that does not fit.
    """
    expect("question", question, Question)
    schedule, weights, model = question.schedule, question.weights, question.model

    def read(t: jax.Array, z_t: jax.Array, carried: Carried) -> Reading:
        prediction = model.ask(z_t, t, carried)
        at_t = None
        if keys is not None:
            at_t = jax.vmap(jax.random.fold_in)(as_key("keys", keys, z_t.shape[0]), t)
        estimates = gate(estimate_encodings(model, prediction, at_t), carried)
        pair = belief(schedule, weights, model, t, z_t, prediction, estimates)
        return Reading(Clean(pair.z_0, estimates), prediction)

    return read


def with_known(denoiser: Denoiser, question: Question, moments: bool = False) -> Denoiser:
    """Puts the known encodings in the place of the estimates, after ẑ_0 has been read.

    In this order the known encodings cannot leak into ẑ_0 (put into the noise form directly they
    would leave w̄_t (Ê_i − E_i) there). A known modality with a share in z_0 enters ẑ_0 too.

    Args:
        denoiser: reads with the model's own estimates.
        question: what is known.
        moments: also give the variances of the unknown encodings.

    Raises:
        ValueError: no denoiser or question; when asked, an answer that does not fit.
    """
    expect_callable("denoiser", denoiser, "(t, z_t, carried) → Reading")
    expect("question", question, Question)
    model, known = question.model, question.known

    def spread(prediction: Prediction, carried: Carried) -> dict[str, jax.Array]:
        unknown = [name for name in model.secondaries if name not in known]
        variances = {
            name: ask_modality(
                model,
                name,
                "encoding_variance",
                head_of(prediction, name),
                shape=prediction.value.shape,
                dtype=prediction.value.dtype,
            )
            for name in unknown
        }
        return gate(variances, carried)

    def read(t: jax.Array, z_t: jax.Array, carried: Carried) -> Reading:
        (z_0, estimates), prediction, _ = steady(denoiser)(t, z_t, carried)
        own = {**estimates, model.primary: model.primary_encoding(z_0, estimates)}
        encodings = {name: known.get(name, estimates[name]) for name in model.secondaries}
        clean = Clean(model.clean_state({**own, **known}), encodings)
        return Reading(clean, prediction, spread(prediction, carried) if moments else {})

    return read


def steady(denoiser: Denoiser) -> Denoiser:
    """The denoiser with its answers in the shape and dtype of the state it is asked about.

    A decorator of the user's may answer in another dtype, and the states of a scan keep theirs.

    Raises:
        ValueError: when asked, an answer that is no reading or has another shape.
    """

    def read(t: jax.Array, z_t: jax.Array, carried: Carried) -> Reading:
        reading = expect("denoiser", denoiser(t, z_t, carried), Reading, "return a Reading")

        def as_state(part: jax.Array) -> jax.Array:
            return checked_result("denoiser", part, z_t.shape, z_t.dtype, "that of the state")

        return reading._replace(clean=jax.tree.map(as_state, reading.clean))

    return read


def total(factors: Any, parts: Any) -> jax.Array:
    """Σ_c factor_c · C over the parts of a signal.

    Args:
        factors: scalars, in the structure of `parts`.
        parts: arrays (batch, *latent).
    """
    products = jax.tree.map(lambda factor, part: factor.astype(part.dtype) * part, factors, parts)
    return jax.tree.reduce(jnp.add, products)
