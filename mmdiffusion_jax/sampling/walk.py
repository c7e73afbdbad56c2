"""The one loop that every stepper runs in."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from mmdiffusion_jax import errors
from mmdiffusion_jax.process import ModelFunctions
from mmdiffusion_jax.process.checks import (
    as_array,
    as_key,
    as_table,
    checked_result,
    described,
    expect,
    expect_callable,
    expect_names,
    expect_whole,
)
from mmdiffusion_jax.sampling.denoiser import Denoiser, Reading, steady, total
from mmdiffusion_jax.sampling.plan import Clean, Plan
from mmdiffusion_jax.sampling.samplers import as_stepper
from mmdiffusion_jax.sampling.steppers import Stepper

START, DRAW, NOISE, CORRECT, READ = range(5)
"""What an example's key is folded with, so that its draws are independent."""


def walk(
    denoiser: Denoiser,
    stepper: Stepper,
    route: Plan,
    model: ModelFunctions,
    start: jax.Array,
    keys: jax.Array,
    carried: Mapping[str, jax.Array],
    corrections: int = 0,
    kept: Sequence[int] | np.ndarray | None = None,
) -> jax.Array:
    """Takes a state from the first t of a grid to the last, in one scan.

    Args:
        denoiser: reads states.
        stepper: goes from t to t; or a name of `SAMPLERS`.
        route: the grid.
        model: the model, for its variance and the names of its modalities.
        start: (batch, *latent), the state at the first t.
        keys: (batch,) typed keys.
        carried: {secondary: (batch,)}, what the states carry.
        corrections: Langevin steps at each t that is reached.
        kept: the places in the grid, from 0, whose states are wanted, increasing; only these are
            held in memory. Left out, the last alone.

    Returns:
        (batch, *latent), the state at the last t; with `kept`, (len(kept), batch, *latent).

    Raises:
        ValueError: arguments of other kinds, or a denoiser that answers in another shape.
    """
    expect_callable("denoiser", denoiser, "(t, z_t, carried) → Reading")
    stepper = as_stepper(stepper)
    expect("route", route, Plan, "make it by sampling.plan")
    expect("model", model, ModelFunctions)
    start = as_array("start", start, "(batch, *latent) of a floating dtype")
    if not start.ndim or not jnp.issubdtype(start.dtype, jnp.floating):
        raise ValueError(
            errors.message(
                "start", described(start), "(batch, *latent) of a floating dtype", "cast it"
            )
        )
    keys = sample_keys(keys, start.shape[0])
    masks = expect_names("carried", carried, "(batch,) of 0 or 1").items()
    carried = {name: as_array(f"carried[{name!r}]", mask) for name, mask in masks}
    expect_whole("corrections", corrections, 0)
    places = np.zeros(0, np.int32) if kept is None else as_table("kept", kept, None)
    if (
        (kept is not None and not places.size)
        or places.ndim != 1
        or not np.isin(places, range(len(route.times))).all()
    ):
        raise ValueError(
            errors.message(
                "kept", described(kept), f"places in 0 … {len(route.times) - 1}", "name one"
            )
        )
    places = places.astype(np.int32)
    like = Clean(start, dict.fromkeys(model.secondaries, start))
    tables, state = stepper.init(route, model, like)
    noise = jnp.asarray(route.noise[1:], start.dtype)
    scale = jax.tree.map(lambda c: jnp.asarray(c[1:], start.dtype), route.scale)
    reached = jnp.asarray(route.times[1:])
    # Where in the kept states each step's result goes; out of range means nowhere.
    slots = np.full(len(route.times), len(places), np.int32)
    slots[places] = np.arange(len(places))

    def ask(t: jax.Array, z: jax.Array) -> Reading:
        return steady(denoiser)(jnp.full(start.shape[:1], t, jnp.int32), z, carried)

    def correct(here: tuple[Any, ...], index: jax.Array, z: jax.Array) -> jax.Array:
        t, sigma, factors = here
        push = z - total(factors, ask(t, z).clean)
        step_keys = fold(fold(fold(keys, CORRECT), t), index)
        return z - 0.5 * push + sigma * normal(step_keys, z.shape, z.dtype)

    def step(carry: tuple[jax.Array, Any, jax.Array], entry: Any) -> tuple[Any, None]:
        z, state, states = carry
        own, here, slot = entry
        fresh = jnp.zeros_like(z)
        if stepper.stochastic:
            fresh = normal(fold(fold(keys, NOISE), here[0]), z.shape, z.dtype)
        z, state = stepper.step(own, z, ask, fresh, state)
        z = checked_result("stepper", z, start.shape, start.dtype, "that of the state")
        if corrections:
            z = jax.lax.fori_loop(0, corrections, functools.partial(correct, here), z)
        if kept is not None:
            states = states.at[slot].set(z, mode="drop")
        return (z, state, states), None

    states = jnp.zeros((len(places), *start.shape), start.dtype)
    if kept is not None:
        states = states.at[slots[0]].set(start, mode="drop")
    steps = tables, (reached, noise, scale), jnp.asarray(slots[1:])
    (last, _, states), _ = jax.lax.scan(step, (start, state, states), steps)
    return last if kept is None else states


def sample_keys(key: jax.Array, num_samples: int) -> jax.Array:
    """One key an example: `fold_in(key, k)` from one key, or the (num_samples,) given ones.

    Raises:
        ValueError: no key, or another number of keys.

    Example:
        >>> sample_keys(jax.random.key(0), 3).shape
        (3,)
    """
    key = as_key("key", key, num_samples)
    if key.ndim:
        return key
    return jax.vmap(functools.partial(jax.random.fold_in, key))(jnp.arange(num_samples))


def normal(keys: jax.Array, shape: tuple[int, ...], dtype: Any = None) -> jax.Array:
    """Standard normal draws, each example from its own key.

    Args:
        keys: (batch,) typed keys.
        shape: (batch, …).
        dtype: floating; left out, JAX's default.

    Example:
        >>> keys = jax.random.split(jax.random.key(0), 2)
        >>> bool((normal(keys, (2, 3))[1] == normal(keys[1:], (1, 3))[0]).all())
        True
    """
    dtype = jnp.zeros(()).dtype if dtype is None else dtype
    return jax.vmap(lambda key: jax.random.normal(key, shape[1:], dtype))(keys)


def fold(keys: jax.Array, number: ArrayLike) -> jax.Array:
    """Each of (batch,) typed keys folded with the number."""
    return jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)
