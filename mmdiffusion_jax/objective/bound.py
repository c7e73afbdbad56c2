"""The variational bound on −log p(X): its four terms unsummed, exactly over t or from one t."""

import dataclasses
import functools
from collections.abc import Collection, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from mmdiffusion_jax import errors
from mmdiffusion_jax.model import Batch, CleanState, Diffusion, Presence, observe, where_present
from mmdiffusion_jax.model.diffusion import expect_diffusion
from mmdiffusion_jax.objective.stages import (
    BoundTerms,
    EncodedBatch,
    answered,
    prepare,
    prepare_stages,
)
from mmdiffusion_jax.objective.terms import (
    posterior_term,
    prior_term,
    reconstruction_term,
    recovery_terms,
)
from mmdiffusion_jax.process import TIMESTEP_DRAWS, Schedule
from mmdiffusion_jax.process.checks import as_array, as_key, described, expect, expect_name


def bound(
    key: jax.Array,
    diffusion: Diffusion,
    batch: Batch,
    presence: Presence | None = None,
    recovery_weights: ArrayLike | None = None,
    given: Collection[str] = (),
    order: Sequence[str] | None = None,
) -> BoundTerms:
    """The bound with both sums over t taken in full; one call of the network for each t.

    Exact in t; each state is one draw from its marginal, so the terms are unbiased estimates over
    the noise. With given modalities it is the bound of −log p(the others | given): all of its
    distributions are conditioned on what the network is shown. With a given primary another
    modality is diffused in its place, if the model has learned that; else there is nothing to
    diffuse, and L2 is −Σ_i log p(x_i | given) by the heads, exactly.

    Args:
        key: a typed key.
        diffusion: the process and the model.
        batch: {name: x (batch, …)} for every modality.
        presence: {name: (batch,) of 0 or 1}; left out, all is present. An example without its
            primary has no L3, and the other terms bound −log p of what it has.
        recovery_weights: (T,) values π_t ≥ 0 that sum to one; left out, uniform.
        given: the names of the modalities that are given; the model shows them.
        order: the stages of a chain, such as ["label", "image"] for the bound of
            −log p(label) − log p(image | label), each stage given those before it; see
            `sampling.Method`. What it does not name is left out. Without an order all is one stage.

    Returns:
        Four per-example arrays, nats.

    Raises:
        ValueError: bad masks, batches or weights; given names that the model does not show.

    Example:
        >>> import jax, jax.numpy as jnp
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
        >>> terms = bound(jax.random.key(0), diffusion, {"x": jnp.ones((3, 2))})
        >>> terms.total.shape, bool(jnp.abs(terms.posterior).max() < 1e-6)  # its steps are right
        ((3,), True)
    """
    key = as_key("key", key)
    pi = _recovery_weights(expect_diffusion(diffusion).num_steps, recovery_weights)
    steps = jnp.arange(1, diffusion.num_steps + 1, dtype=jnp.int32)
    even = jnp.full(steps.shape, 1 / diffusion.num_steps)
    parts = [
        bound_over(key, stage, pi, steps, (even, even, even))
        for stage in prepare_stages(diffusion, batch, presence, given, order)
    ]
    return functools.reduce(lambda one, other: jax.tree.map(jnp.add, one, other), parts)


def bound_over(
    key: jax.Array,
    encoded: EncodedBatch,
    pi: jax.Array,
    steps: jax.Array,
    scales: tuple[jax.Array, jax.Array, jax.Array],
) -> BoundTerms:
    """The bound as a weighted sum of one-t estimates, in one scan; L0 needs no t.

    Where nothing diffuses it is one call of the heads, whatever the steps.

    Args:
        key: a typed key; the k-th step, from 1, takes the noise `step_noise(key, k, ·)`.
        encoded: from `prepare`.
        pi: (T,) weights of L2.
        steps: (num,) integers in 1 … T; a step named twice is drawn twice.
        scales: the factors of the estimates of L1, L2 and L3 at each step, (num,) each.
    """
    if not encoded.diffuses:
        return answered(encoded)
    z_0 = encoded.clean.z_0

    def add_step(
        total: BoundTerms, step: tuple[jax.Array, jax.Array, tuple[jax.Array, ...]]
    ) -> tuple[BoundTerms, None]:
        index, t, scale = step
        noise = step_noise(key, index, z_0)
        terms = _at(encoded, pi, jnp.full(z_0.shape[:1], t, jnp.int32), noise)
        posterior, recovery, reconstruction = (x.astype(noise.dtype) for x in scale)
        summand = BoundTerms(
            prior=jnp.zeros_like(terms.prior),
            posterior=posterior * terms.posterior,
            recovery=recovery * terms.recovery,
            reconstruction=reconstruction * terms.reconstruction,
        )
        return jax.tree.map(jnp.add, total, summand), None

    zero = jnp.zeros(z_0.shape[:1], z_0.dtype)
    order = jnp.arange(1, steps.shape[0] + 1, dtype=jnp.int32)
    total, _ = jax.lax.scan(add_step, BoundTerms(zero, zero, zero, zero), (order, steps, scales))
    return dataclasses.replace(total, prior=_prior(encoded))


def bound_at(
    t: jax.Array,
    noise: jax.Array,
    diffusion: Diffusion,
    batch: Batch,
    presence: Presence | None = None,
    recovery_weights: ArrayLike | None = None,
    given: Collection[str] = (),
) -> BoundTerms:
    """The one-t estimate of the bound at given t and noise; its mean over t = 1 … T is the bound.

    L1 becomes T times its summand at t (none at t = 1), L2 becomes T π_t times its summand, and
    L3 is T times the reconstruction at t = 1 and zero elsewhere. L0 needs no t.

    `t` are (batch,) integers in 1 … T and `noise` is (batch, *latent), ε ~ N(0, I); the other
    arguments, result and errors are those of `bound`.

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
        >>> batch = {"x": jnp.ones((3, 2))}
        >>> terms = bound_at(jnp.array([1, 5, 10]), jnp.zeros((3, 2)), diffusion, batch)
        >>> (terms.reconstruction != 0).tolist()  # it is at t = 1
        [True, False, False]
    """
    encoded = prepare(diffusion, batch, presence, given)
    pi = _recovery_weights(diffusion.num_steps, recovery_weights)
    return _at(encoded, pi, t, noise)


def bound_estimate(
    key: jax.Array,
    diffusion: Diffusion,
    batch: Batch,
    presence: Presence | None = None,
    recovery_weights: ArrayLike | None = None,
    timesteps: str = "uniform",
    given: Collection[str] = (),
) -> BoundTerms:
    """An unbiased estimate of the bound from one t an example, for one call of the network.

    `timesteps` says how t is drawn: "uniform", "antithetic" or "stratified", else it is an error;
    the other arguments, result and errors are those of `bound`.

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
        >>> batch = {"x": jnp.ones((3, 2))}
        >>> bound_estimate(jax.random.key(0), diffusion, batch).total.shape
        (3,)
    """
    key = as_key("key", key)
    encoded = prepare(diffusion, batch, presence, given)
    pi = _recovery_weights(diffusion.num_steps, recovery_weights)
    t, noise = draw_t_and_noise(key, diffusion.process.schedule, encoded.clean, timesteps)
    return _at(encoded, pi, t, noise)


def draw_t_and_noise(
    key: jax.Array, schedule: Schedule, clean: CleanState, timesteps: str
) -> tuple[jax.Array, jax.Array]:
    """One t an example, drawn as `timesteps` says, and the noise of z_t.

    Raises:
        ValueError: an unknown draw; no key, schedule or clean state.

    Example:
        >>> from mmdiffusion_jax import model, process
        >>> schedule, clean = process.cosine_schedule(10), model.CleanState(jnp.zeros((4, 2)), {})
        >>> t, noise = draw_t_and_noise(jax.random.key(0), schedule, clean, "uniform")
        >>> t.shape, noise.shape
        ((4,), (4, 2))
    """
    key = as_key("key", key)
    expect("schedule", schedule, Schedule)
    expect("clean", clean, CleanState, "encode the batch by model.encode")
    expect_name("timesteps", timesteps, TIMESTEP_DRAWS)
    t_key, noise_key = jax.random.split(key)
    t = TIMESTEP_DRAWS[timesteps](t_key, clean.z_0.shape[0], schedule.num_steps)
    return t, jax.random.normal(noise_key, clean.z_0.shape, clean.z_0.dtype)


def step_noise(key: jax.Array, t: jax.Array, like: jax.Array) -> jax.Array:
    """The noise of `bound` at step t: normal draws from `fold_in(key, t)`.

    Raises:
        ValueError: no key, t that is no integer, or `like` is no array.

    Example:
        >>> step_noise(jax.random.key(0), jnp.array(3), jnp.zeros((4, 2))).shape
        (4, 2)
    """
    key, like, t = as_key("key", key), as_array("like", like), as_array("t", t, "an integer")
    if t.ndim or not jnp.issubdtype(t.dtype, jnp.integer):
        raise errors.invalid("t", described(t), "one integer", "pass one step")
    if not jnp.issubdtype(like.dtype, jnp.floating):
        raise errors.invalid("like", described(like), "a floating dtype", "cast it")
    return jax.random.normal(jax.random.fold_in(key, t), like.shape, like.dtype)


def _prior(encoded: EncodedBatch) -> jax.Array:
    prior = prior_term(encoded.diffusion.process, encoded.clean)
    return where_present(encoded.roles.carries_any(), prior)


def _at(encoded: EncodedBatch, pi: jax.Array, t: jax.Array, noise: jax.Array) -> BoundTerms:
    diffusion = encoded.diffusion
    model, num_steps = diffusion.model, diffusion.num_steps
    batch, roles, clean = encoded.batch, encoded.roles, encoded.clean
    state = observe(diffusion, clean, roles, t, noise)
    t, dtype = state.t, state.z_t.dtype
    recovery = sum(recovery_terms(model, batch, roles, state).values(), jnp.zeros(t.shape, dtype))
    reconstruction = reconstruction_term(model, batch, roles, state)
    # Where nothing is diffused the heads answer once, whatever t was drawn.
    weight = jnp.where(roles.carries_any(), num_steps * pi[t - 1].astype(dtype), 1)
    return BoundTerms(
        prior=_prior(encoded),
        posterior=where_present(
            roles.carries_any(), num_steps * posterior_term(diffusion, clean, state)
        ),
        recovery=weight * recovery,
        reconstruction=jnp.where(
            t == 1, num_steps * reconstruction, jnp.zeros_like(reconstruction)
        ),
    )


def _recovery_weights(num_steps: int, values: ArrayLike | None) -> jax.Array:
    if values is None:
        return jnp.full((num_steps,), 1 / num_steps)
    pi = as_array("recovery_weights", values)
    if pi.shape != (num_steps,):
        raise errors.invalid(
            "recovery_weights",
            f"shape {pi.shape}",
            f"shape ({num_steps},), one π_t for each t = 1 … T",
            "give T values that sum to one",
        )
    if isinstance(pi, jax.core.Tracer):
        return pi
    # On the host: under jit the sum of known values would be traced.
    total, least = float(np.asarray(pi).sum()), float(np.asarray(pi).min())
    if not (least >= 0 and abs(total - 1) <= 1e-4):
        raise errors.invalid(
            "recovery_weights",
            f"a sum of {total} and a minimum of {least}",
            "values of at least 0 that sum to one",
            "divide them by their sum; otherwise the total bounds nothing",
        )
    return pi
