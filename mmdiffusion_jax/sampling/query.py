"""Queries, and the denoisers that serve them.

Guidance and thresholding are decorators of these, denoiser → denoiser.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from mmdiffusion_jax.model import (
    CleanState,
    Denoiser,
    Diffusion,
    NoisyState,
    Roles,
    call_modality,
    denoise,
    head_of,
)
from mmdiffusion_jax.process.checks import as_key, checked_result, expect, expect_callable

ESTIMATES = ("mean", "draw", "moments")
"""How the encoding of a generated modality is estimated from its head."""


@dataclasses.dataclass(frozen=True)
class Query:
    """The model that is sampled and the values that are given: what decorators get to know.

    Attributes:
        diffusion: the process and the model.
        given: {name: x (batch, …)}, the values that are given.
        encodings: {name: E(x) (batch, *latent)}, their encodings.

    Example:
        >>> from mmdiffusion_jax import model, process
        >>> point = model.ModalityFunctions(
        ...     encode=lambda x: x,
        ...     log_prob=lambda mean, x: model.gaussian_log_prob(mean, jnp.zeros_like(mean), x),
        ... )
        >>> functions = model.ModelFunctions(  # it knows that all data are 1
        ...     lambda z_t, t: model.Prediction(jnp.ones_like(z_t), {}), {"x": point}, "x",
        ...     target="z_0",
        ... )
        >>> diffusion = model.Diffusion(process.Process(process.cosine_schedule(10)), functions)
        >>> Query(diffusion, given={}, encodings={}).diffusion.num_steps
        10
    """

    diffusion: Diffusion
    given: Mapping[str, jax.Array]
    encodings: Mapping[str, jax.Array]


def make_query(
    diffusion: Diffusion, given: Mapping[str, jax.Array], shape: tuple[int, ...]
) -> Query:
    """The query of given values, encoded in the shape of the states, (batch, *latent).

    Raises:
        ValueError: a name that the model lacks, or an encoding of another shape.
    """
    dtype = jnp.zeros(()).dtype
    encodings = {
        name: call_modality(diffusion.model, name, "encode", x, shape=shape, dtype=dtype)
        for name, x in given.items()
    }
    return Query(diffusion, given, encodings)


class Decorator(Protocol):
    """Makes another denoiser of one, such as guidance.

    Example:
        >>> def halved(denoiser, query):  # halves every estimate of z_0
        ...     def estimate(t, z_t, roles):
        ...         state = denoiser(t, z_t, roles)
        ...         return state.with_z_0(state.clean.z_0 / 2)
        ...     return estimate
    """

    def __call__(self, denoiser: Denoiser, query: Query, /) -> Denoiser:
        """The denoiser that takes the place of `denoiser` in this query."""


def plain_denoiser(query: Query, keys: jax.Array | None = None) -> Denoiser:
    """The estimates of the model from z_t alone, as if nothing were given.

    With (batch,) typed keys the estimated encodings are those of draws, without they are means.

    Raises:
        ValueError: no query; when called, another number of keys than of examples, or a result of
            the model that does not fit.

    Example:
        >>> from mmdiffusion_jax import model, process
        >>> point = model.ModalityFunctions(
        ...     encode=lambda x: x,
        ...     log_prob=lambda mean, x: model.gaussian_log_prob(mean, jnp.zeros_like(mean), x),
        ... )
        >>> functions = model.ModelFunctions(  # it knows that all data are 1
        ...     lambda z_t, t: model.Prediction(jnp.ones_like(z_t), {}), {"x": point}, "x",
        ...     target="z_0",
        ... )
        >>> diffusion = model.Diffusion(process.Process(process.cosine_schedule(10)), functions)
        >>> denoiser = plain_denoiser(Query(diffusion, given={}, encodings={}))
        >>> state = denoiser(jnp.array([5]), jnp.zeros((1, 2)), model.all_carried(["x"], 1))
        >>> state.clean.z_0.tolist()
        [[1.0, 1.0]]
    """
    diffusion = expect("query", query, Query).diffusion

    def estimate(t: jax.Array, z_t: jax.Array, roles: Roles) -> NoisyState:
        at_t = None
        if keys is not None:
            at_t = jax.vmap(jax.random.fold_in)(as_key("keys", keys, z_t.shape[0]), t)
        return denoise(diffusion, t, z_t, roles, at_t)

    return estimate


@dataclasses.dataclass(frozen=True)
class DrawingDenoiser:
    """A denoiser whose encodings are draws, and which can be had with other draws.

    Attributes:
        denoiser: the one with draws of `keys`, as `make` makes it.
        make: the denoiser with draws of these (batch,) typed keys.
        keys: (batch,) typed keys.
    """

    denoiser: Denoiser
    make: Callable[[jax.Array], Denoiser]
    keys: jax.Array

    def __call__(self, t: jax.Array, z_t: jax.Array, roles: Roles) -> NoisyState:
        """The estimates of the parts of a state."""
        return self.denoiser(t, z_t, roles)


def redrawn(denoiser: Denoiser, number: ArrayLike) -> Denoiser:
    """The denoiser with draws of its own for this number, where it draws: it itself elsewhere.

    A denoiser draws by its keys and t alone, so that two calls at the same t would draw the same.
    """
    if not isinstance(denoiser, DrawingDenoiser):
        return denoiser
    return denoiser.make(jax.vmap(lambda key: jax.random.fold_in(key, number))(denoiser.keys))


def with_given(denoiser: Denoiser, query: Query, moments: bool = False) -> Denoiser:
    """Replaces the estimates of encodings by the given encodings, after ẑ_0 has been solved for.

    In this order they cannot leak into ẑ_0: solved for with the given E_i in place of Ê_i, ẑ_0
    would keep w̄_t (Ê_i − E_i). A given modality with a share in z_0 enters ẑ_0 too.

    Args:
        denoiser: solves for ẑ_0 with the estimates of the model.
        query: what is given.
        moments: also return the variances of the encodings that are estimated.

    Raises:
        ValueError: no denoiser or query; when called, a result that does not fit.

    Example:
        >>> from mmdiffusion_jax import model, process
        >>> point = model.ModalityFunctions(
        ...     encode=lambda x: x, log_prob=lambda m, x: x, expected_encoding=lambda m: m
        ... )
        >>> functions = model.ModelFunctions(
        ...     lambda z_t, t: model.Prediction(z_t, {"y": 0 * z_t}), {"x": point, "y": point}, "x"
        ... )
        >>> schedule = process.cosine_schedule(5)
        >>> forward = process.Process(schedule, process.modality_weights(schedule, {"y": "bump"}))
        >>> given = {"y": jnp.ones((1, 2))}
        >>> query = Query(model.Diffusion(forward, functions), given, encodings=given)
        >>> denoiser = with_given(plain_denoiser(query), query)
        >>> roles = model.all_carried(["x", "y"], 1)
        >>> denoiser(jnp.array([3]), jnp.zeros((1, 2)), roles).clean.encodings["y"].tolist()
        [[1.0, 1.0]]
    """
    expect_callable("denoiser", denoiser, "(t, z_t, roles) → NoisyState")
    model = expect("query", query, Query).diffusion.model

    def variances(state: NoisyState, roles: Roles) -> dict[str, jax.Array]:
        like = state.prediction.value
        return roles.mask(
            {
                name: call_modality(
                    model,
                    name,
                    "encoding_variance",
                    head_of(state.prediction, name),
                    shape=like.shape,
                    dtype=like.dtype,
                )
                for name in model.secondaries
                if name not in query.encodings
            }
        )

    def estimate(t: jax.Array, z_t: jax.Array, roles: Roles) -> NoisyState:
        state = checked_denoiser(denoiser)(t, z_t, roles)
        encodings = roles.mask(query.encodings)
        estimates = state.clean.encodings
        primary = model.primary_encoding(state.clean.z_0, estimates)
        clean = CleanState(
            model.clean_state({**estimates, model.primary: primary, **encodings}),
            {name: encodings.get(name, estimates[name]) for name in model.secondaries},
        )
        return dataclasses.replace(
            state, clean=clean, encoding_variances=variances(state, roles) if moments else {}
        )

    return estimate


def checked_denoiser(denoiser: Denoiser) -> Denoiser:
    """The denoiser with its estimates in the shape and dtype of the state.

    A decorator of the user's may compute in another dtype, but the states of a scan keep theirs.

    Raises:
        ValueError: when called, a result that is no `NoisyState` or has another shape.
    """

    def estimate(t: jax.Array, z_t: jax.Array, roles: Roles) -> NoisyState:
        state = expect("denoiser", denoiser(t, z_t, roles), NoisyState, "return a NoisyState")

        def as_state(part: jax.Array) -> jax.Array:
            return checked_result("denoiser", part, z_t.shape, z_t.dtype, "that of the state")

        return dataclasses.replace(state, clean=jax.tree.map(as_state, state.clean))

    return estimate


def total(factors: Any, parts: Any) -> jax.Array:
    """Σ_c factor_c · C over the parts C of a signal, each (batch, *latent); factors are scalars."""
    products = jax.tree.map(lambda factor, part: factor.astype(part.dtype) * part, factors, parts)
    return jax.tree.reduce(jnp.add, products)
