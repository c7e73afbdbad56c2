"""Queries, and the denoisers that answer them.

Guidance and thresholding are decorators of these, denoiser → denoiser.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from mmdiffusion_jax.model import (
    CleanState,
    Denoiser,
    Diffusion,
    NoisyState,
    Roles,
    ask_modality,
    denoise,
    head_of,
)
from mmdiffusion_jax.process.checks import as_key, checked_result, expect, expect_callable

ESTIMATES = ("mean", "draw", "moments")
"""How the encoding of a generated modality is estimated from its head."""


@dataclasses.dataclass(frozen=True)
class Query:
    """What is asked of a model; what decorators may need to know.

    Attributes:
        diffusion: the process and the model.
        given: {name: x (batch, …)}, the values that are given.
        encodings: {name: E(x) (batch, *latent)}, their encodings.
    """

    diffusion: Diffusion
    given: Mapping[str, jax.Array]
    encodings: Mapping[str, jax.Array]


class Decorator(Protocol):
    """Makes another denoiser of one, such as guidance."""

    def __call__(self, denoiser: Denoiser, query: Query, /) -> Denoiser:
        """The denoiser that takes the place of the given one in this query."""


def plain_denoiser(query: Query, keys: jax.Array | None = None) -> Denoiser:
    """The model's own estimates, as if nothing were given.

    Args:
        query: the model and its process.
        keys: (batch,) typed keys; given, encodings are those of draws, otherwise means.

    Raises:
        ValueError: no query; when called, other than as many keys as examples, or an answer of the
            model that does not fit.
    """
    diffusion = expect("query", query, Query).diffusion

    def estimate(t: jax.Array, z_t: jax.Array, roles: Roles) -> NoisyState:
        at_t = None
        if keys is not None:
            at_t = jax.vmap(jax.random.fold_in)(as_key("keys", keys, z_t.shape[0]), t)
        return denoise(diffusion, t, z_t, roles, at_t)

    return estimate


def with_given(denoiser: Denoiser, query: Query, moments: bool = False) -> Denoiser:
    """Puts the encodings of what is given in the place of the estimates, after ẑ_0 has been read.

    In this order they cannot leak into ẑ_0 (put into the noise form directly they would leave
    w̄_t (Ê_i − E_i) there). A given modality with a share in z_0 enters ẑ_0 too.

    Args:
        denoiser: reads with the model's own estimates.
        query: what is given.
        moments: also give the variances of the encodings that are not.

    Raises:
        ValueError: no denoiser or query; when called, an answer that does not fit.
    """
    expect_callable("denoiser", denoiser, "(t, z_t, roles) → NoisyState")
    model, encodings = expect("query", query, Query).diffusion.model, query.encodings

    def variances(state: NoisyState, roles: Roles) -> dict[str, jax.Array]:
        like = state.prediction.value
        return roles.gate(
            {
                name: ask_modality(
                    model,
                    name,
                    "encoding_variance",
                    head_of(state.prediction, name),
                    shape=like.shape,
                    dtype=like.dtype,
                )
                for name in model.secondaries
                if name not in encodings
            }
        )

    def answer(t: jax.Array, z_t: jax.Array, roles: Roles) -> NoisyState:
        state = steady(denoiser)(t, z_t, roles)
        estimates = state.clean.encodings
        own = {**estimates, model.primary: model.primary_encoding(state.clean.z_0, estimates)}
        clean = CleanState(
            model.clean_state({**own, **encodings}),
            {name: encodings.get(name, estimates[name]) for name in model.secondaries},
        )
        return dataclasses.replace(
            state, clean=clean, spread=variances(state, roles) if moments else {}
        )

    return answer


def steady(denoiser: Denoiser) -> Denoiser:
    """The denoiser with its answers in the shape and dtype of the state it is asked about.

    A decorator of the user's may answer in another dtype, and the states of a scan keep theirs.

    Raises:
        ValueError: when called, an answer that is no `NoisyState` or has another shape.
    """

    def answer(t: jax.Array, z_t: jax.Array, roles: Roles) -> NoisyState:
        state = expect("denoiser", denoiser(t, z_t, roles), NoisyState, "return a NoisyState")

        def as_state(part: jax.Array) -> jax.Array:
            return checked_result("denoiser", part, z_t.shape, z_t.dtype, "that of the state")

        return dataclasses.replace(state, clean=jax.tree.map(as_state, state.clean))

    return answer


def total(factors: Any, parts: Any) -> jax.Array:
    """Σ_c factor_c · C over the parts of a signal.

    Args:
        factors: scalars, in the structure of `parts`.
        parts: arrays (batch, *latent).
    """
    products = jax.tree.map(lambda factor, part: factor.astype(part.dtype) * part, factors, parts)
    return jax.tree.reduce(jnp.add, products)
