"""The one loop that every stepper runs in."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from mmdiffusion_jax import errors
from mmdiffusion_jax.model import CleanState, Denoiser, NoisyState, Roles
from mmdiffusion_jax.process.checks import (
    as_array,
    as_key,
    as_table,
    checked_result,
    described,
    expect,
    expect_callable,
)
from mmdiffusion_jax.sampling.method import Method
from mmdiffusion_jax.sampling.plan import Plan
from mmdiffusion_jax.sampling.query import checked_denoiser, redrawn, total
from mmdiffusion_jax.sampling.steppers.names import as_stepper

START, DRAW, NOISE, CORRECT, READ, SHOWN, STAGE = range(7)
"""The numbers that are folded into an example's key, so that its draws are independent."""

_DELTA = 0.5
_LOOK = ((2 * _DELTA) ** 0.5 - (2 * _DELTA - _DELTA**2) ** 0.5) / _DELTA


def run_stepper(
    denoiser: Denoiser,
    method: Method,
    plan: Plan,
    start: jax.Array,
    keys: jax.Array,
    roles: Roles,
    kept: Sequence[int] | np.ndarray | None = None,
) -> jax.Array:
    """Takes a state from the first t of a grid to the last, in one scan.

    Args:
        denoiser: estimates the parts of a state.
        method: its stepper and its corrections count.
        plan: the process along the grid.
        start: (batch, *latent), the state at the first t.
        keys: (batch,) typed keys.
        roles: which part each modality plays.
        kept: the places in the grid, from 0 and increasing, whose states are returned; only these
            are held in memory. Left out, the last alone.

    Returns:
        (batch, *latent), the state at the last t; with `kept`, (len(kept), batch, *latent).

    Raises:
        ValueError: arguments of other kinds, or a denoiser whose estimates have another shape.

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
        >>> from mmdiffusion_jax import sampling
        >>> denoiser = sampling.plain_denoiser(sampling.Query(diffusion, {}, {}))
        >>> method = sampling.Method(sampling.DDIM(), np.array([10, 5, 1]))
        >>> keys, roles = jax.random.split(jax.random.key(0), 3), model.all_carried(["x"], 3)
        >>> along = sampling.plan(diffusion.process, method.times)
        >>> run_stepper(denoiser, method, along, jnp.zeros((3, 2)), keys, roles).shape
        (3, 2)
    """
    expect_callable("denoiser", denoiser, "(t, z_t, roles) → NoisyState")
    stepper = as_stepper(expect("method", method, Method).stepper)
    expect("plan", plan, Plan, "make it by sampling.plan")
    expect("roles", roles, Roles, "make them by model.query_roles")
    start = as_array("start", start, "(batch, *latent) of a floating dtype")
    if not start.ndim or not jnp.issubdtype(start.dtype, jnp.floating):
        raise errors.invalid(
            "start", described(start), "(batch, *latent) of a floating dtype", "cast it"
        )
    keys = sample_keys(keys, start.shape[0])
    places = np.zeros(0, np.int32) if kept is None else as_table("kept", kept, None)
    if (
        (kept is not None and not places.size)
        or places.ndim != 1
        or not np.isin(places, range(len(plan.times))).all()
    ):
        raise errors.invalid(
            "kept", described(kept), f"places in 0 … {len(plan.times) - 1}", "name one"
        )
    places = places.astype(np.int32)
    like = CleanState(start, dict.fromkeys(plan.scale.encodings, start))
    tables, state = stepper.init(plan, like)
    sigma = jnp.asarray(plan.noise[1:], start.dtype)
    scale = jax.tree.map(lambda c: jnp.asarray(c[1:], start.dtype), plan.scale)
    # Where in the kept states each step's result goes; out of range means nowhere.
    slots = np.full(len(plan.times), len(places), np.int32)
    slots[places] = np.arange(len(places))

    def denoise(t: jax.Array, z: jax.Array, by: Denoiser = denoiser) -> NoisyState:
        return checked_denoiser(by)(jnp.full(start.shape[:1], t, jnp.int32), z, roles)

    def correct(at_end: tuple[Any, ...], index: jax.Array, z: jax.Array) -> jax.Array:
        """A Langevin step; see `Method.corrections`.

        Where σ ε̂ = r z + const, as for Gaussian data, r = σ² / V in [0, 1] at the variance V of the
        states, the step leaves the variance V if that of its noise is (2δ − δ² r) σ². The noise
        that enters is (sqrt(2δ) − δ κ r)² σ²: the same at r = 0, and by the choice of κ at r = 1.
        Between them they differ by at most δ² κ² σ² / 4, half a percent.
        """
        t, sigma, factors = at_end
        noise = sigma * normal(fold(fold(fold(keys, CORRECT), t), index), z.shape, z.dtype)
        looked_at = z + _LOOK * noise
        clean = denoise(t, looked_at, redrawn(denoiser, index)).clean
        return z - _DELTA * (looked_at - total(factors, clean)) + (2 * _DELTA) ** 0.5 * noise

    def step(carry: tuple[jax.Array, Any, jax.Array], entry: Any) -> tuple[Any, None]:
        z, state, states = carry
        step_tables, end, slot = entry
        noise = jnp.zeros_like(z)
        if stepper.stochastic:
            noise = normal(fold(fold(keys, NOISE), end[0]), z.shape, z.dtype)
        z, state = stepper.step(step_tables, z, denoise, noise, state)
        z = checked_result("stepper", z, start.shape, start.dtype, "that of the state")
        if method.corrections:
            z = jax.lax.fori_loop(0, method.corrections, functools.partial(correct, end), z)
        if kept is not None:
            states = states.at[slot].set(z, mode="drop")
        return (z, state, states), None

    states = jnp.zeros((len(places), *start.shape), start.dtype)
    if kept is not None:
        states = states.at[slots[0]].set(start, mode="drop")
    steps = tables, (jnp.asarray(plan.times[1:]), sigma, scale), jnp.asarray(slots[1:])
    (last, _, states), _ = jax.lax.scan(step, (start, state, states), steps)
    return last if kept is None else states


def sample_keys(key: jax.Array, num_samples: int) -> jax.Array:
    """One key an example: `fold_in(key, k)` of one key, or the (num_samples,) keys themselves.

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
    """Standard normal draws of shape (batch, …), with one of (batch,) keys for each example.

    Example:
        >>> keys = jax.random.split(jax.random.key(0), 2)
        >>> bool((normal(keys, (2, 3))[1] == normal(keys[1:], (1, 3))[0]).all())
        True
    """
    dtype = jnp.zeros(()).dtype if dtype is None else dtype
    return jax.vmap(lambda key: jax.random.normal(key, shape[1:], dtype))(keys)


def fold(keys: jax.Array, number: ArrayLike) -> jax.Array:
    """`fold_in(key, number)` of each of (batch,) typed keys."""
    return jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)
