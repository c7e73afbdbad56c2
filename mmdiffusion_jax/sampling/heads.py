"""Values from the decoder heads."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from mmdiffusion_jax import errors
from mmdiffusion_jax.model import (
    Diffusion,
    ModelFunctions,
    Roles,
    call_modality,
    draw,
    estimate_encodings,
    function_of,
    head_of,
)
from mmdiffusion_jax.process import marginal
from mmdiffusion_jax.sampling.loop import NOISE, fold, normal
from mmdiffusion_jax.sampling.plan import Plan
from mmdiffusion_jax.sampling.query import Query


def heads_given_known(
    diffusion: Diffusion, names: Sequence[str], at_levels: Sequence[Roles], shape: tuple[int, ...]
) -> dict[str, Any]:
    """{name: its heads, leading axis level}, by calls that see what is known and diffuse nothing.

    The state is zero at t = T, as in training; each of the roles shows what is known at its level.
    """
    nothing = jnp.zeros(shape)
    last = jnp.full(shape[:1], diffusion.num_steps, jnp.int32)

    def call(roles: Roles) -> dict[str, Any]:
        prediction = diffusion.model.predict(nothing, last, roles)
        return {name: head_of(prediction, name) for name in names}

    if len(at_levels) == 1:
        return alone(call(at_levels[0]))
    return jax.lax.map(call, jax.tree.map(lambda *leaves: jnp.stack(leaves), *at_levels))


def heads_given_primary(
    query: Query, grid: Plan, keys: jax.Array, draw_keys: jax.Array | None, roles: Roles
) -> dict[str, Any]:
    """{secondary: its heads at noisy states of a given primary, leading axis t}."""
    process, model = query.diffusion.process, query.diffusion.model
    encodings = query.encodings
    like = encodings[model.primary]
    nothing = {name: jnp.zeros_like(like) for name in model.secondaries}

    def refine(estimates: dict[str, jax.Array], t: jax.Array) -> tuple[Any, Any]:
        times = jnp.full(like.shape[:1], t, jnp.int32)
        drift = roles.mask(
            {name: encodings.get(name, estimates[name]) for name in model.secondaries}
        )
        z_0 = model.clean_state({**drift, model.primary: like})
        state = marginal(process, times, z_0, drift)
        noise = normal(fold(fold(keys, NOISE), t), like.shape, like.dtype)
        prediction = model.predict(state.mean + jnp.sqrt(state.variance) * noise, times, roles)
        at_t = None if draw_keys is None else fold(draw_keys, t)
        refined = roles.mask(estimate_encodings(model, prediction, at_t))
        return refined, {name: head_of(prediction, name) for name in model.secondaries}

    return jax.lax.scan(refine, nothing, jnp.asarray(grid.times))[1]


def value_of(model: ModelFunctions, name: str, heads: Any, keys: jax.Array | None) -> jax.Array:
    """The values of one modality from its heads, whose leading axis is t, from noise to data.

    With keys (batch,) they are draws from the last head, without the most likely of all pooled.
    """
    last = jax.tree.map(lambda leaf: leaf[-1], heads)
    if keys is not None:
        # By name, so that the values of modalities are drawn independently.
        index = sorted(model.modalities).index(name)
        return draw(model, name, fold(keys, index), last)
    if model.modalities[name].pool is not None:
        pooled = function_of(model, name, "pool")(heads)
        shapes = [jax.tree.map(jnp.shape, parameters) for parameters in (pooled, last)]
        if shapes[0] != shapes[1]:
            raise errors.invalid(
                f"modalities[{name!r}].pool",
                f"parameters of shapes {shapes[0]}",
                f"one set of them, of shapes {shapes[1]}",
                "reduce the leading axis, and that alone",
            )
        last = pooled
    sizes = sorted({jnp.shape(leaf)[0] for leaf in jax.tree.leaves(last) if jnp.ndim(leaf)})
    return call_modality(model, name, "most_likely", last, shape=(*sizes[:1], ...))


def alone(head: Any) -> Any:
    """One head as a stack of one."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], head)
