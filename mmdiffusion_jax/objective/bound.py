"""The variational bound on −log p(X): its four terms unsummed, exactly over t or from one t."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from mmdiffusion_jax import errors
from mmdiffusion_jax.objective.state import (
    Batch,
    CleanState,
    Masks,
    encode,
    observe,
    present_in,
)
from mmdiffusion_jax.objective.terms import (
    posterior_term,
    prior_term,
    reconstruction_term,
    recovery_terms,
)
from mmdiffusion_jax.process import (
    TIMESTEP_DRAWS,
    ModalityWeights,
    ModelFunctions,
    Schedule,
    check_model,
    check_weights,
    where_present,
)
from mmdiffusion_jax.process.checks import (
    as_array,
    as_key,
    described,
    expect,
    expect_name,
    expect_number,
)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class BoundTerms:
    """The four terms of the bound, each (batch,) in nats.

    Attributes:
        prior: L0.
        posterior: L1.
        recovery: L2.
        reconstruction: L3.

    Example:
        >>> import jax.numpy as jnp
        >>> terms = BoundTerms(*(jnp.full((1,), x) for x in (1.0, 2.0, 3.0, 4.0)))
        >>> terms.total.tolist()
        [10.0]
    """

    prior: jax.Array
    posterior: jax.Array
    recovery: jax.Array
    reconstruction: jax.Array

    @property
    def total(self) -> jax.Array:
        """L0 + L1 + L2 + L3, (batch,) nats: an upper bound of −log p(X)."""
        return self.prior + self.posterior + self.recovery + self.reconstruction

    def bits_per_dim(self, num_dims: int) -> jax.Array:
        """The total in bits per dimension, nats / (ln 2 · num_dims), (batch,).

        Args:
            num_dims: how many dimensions X has, all modalities together.

        Raises:
            ValueError: when `num_dims` is below 1.
        """
        expect_number("num_dims", num_dims, "1 or more", lambda x: x >= 1, "count X's values")
        return self.total / (math.log(2) * num_dims)


def bound(
    key: jax.Array,
    schedule: Schedule,
    weights: ModalityWeights,
    model: ModelFunctions,
    batch: Batch,
    presence: Masks | None = None,
    recovery_weights: ArrayLike | None = None,
) -> BoundTerms:
    """The bound with both sums over t taken in full; one network call a step.

    Exact in t; each state is still one draw from its marginal, so the terms are unbiased
    estimates over the noise.

    Args:
        key: a typed key.
        schedule: the noise schedule.
        weights: the modality weights.
        model: the model as plain functions.
        batch: {name: x (batch, …)} for every modality.
        presence: {name: (batch,) of 0 or 1}; left out, all is present.
        recovery_weights: (T,) values π_t ≥ 0 that sum to one; left out, uniform.

    Returns:
        Four per-example arrays, nats.

    Raises:
        ValueError: bad weights, masks or batches; each names what is wrong.
    """
    key = as_key("key", key)
    present, clean = prepare(schedule, weights, model, batch, presence)
    pi = _recovery_weights(schedule, recovery_weights)
    steps = jnp.arange(1, schedule.num_steps + 1, dtype=jnp.int32)
    even = jnp.full(steps.shape, 1 / schedule.num_steps)
    return bound_over(
        key, schedule, weights, model, batch, present, clean, pi, steps, (even, even, even)
    )


def bound_over(
    key: jax.Array,
    schedule: Schedule,
    weights: ModalityWeights,
    model: ModelFunctions,
    batch: Batch,
    present: Masks,
    clean: CleanState,
    pi: jax.Array,
    steps: jax.Array,
    scales: tuple[jax.Array, jax.Array, jax.Array],
) -> BoundTerms:
    """The bound as a weighted sum of one-t estimates, in one scan; L0 needs no t.

    Args:
        key: a typed key; the k-th step, from 1, takes the noise `step_noise(key, k, ·)`.
        schedule: the noise schedule.
        weights: the modality weights.
        model: the model as plain functions.
        batch: {name: x (batch, …)} for every modality.
        present: {name: (batch,) of 0 or 1} for every modality.
        clean: the encoded batch.
        pi: (T,) weights of L2.
        steps: (num,) integers in 1 … T; a step named twice is drawn twice.
        scales: what the estimates of L1, L2 and L3 at each step count for, (num,) each.

    Returns:
        Four per-example arrays, nats.
    """

    def add_step(
        total: BoundTerms, step: tuple[jax.Array, jax.Array, tuple[jax.Array, ...]]
    ) -> tuple[BoundTerms, None]:
        index, t, scale = step
        noise = step_noise(key, index, clean.z_0)
        times = jnp.full(clean.z_0.shape[:1], t, jnp.int32)
        here = _at(schedule, weights, model, batch, present, clean, pi, times, noise)
        posterior, recovery, reconstruction = (x.astype(noise.dtype) for x in scale)
        summand = BoundTerms(
            prior=jnp.zeros_like(here.prior),
            posterior=posterior * here.posterior,
            recovery=recovery * here.recovery,
            reconstruction=reconstruction * here.reconstruction,
        )
        return jax.tree.map(jnp.add, total, summand), None

    zero = jnp.zeros(clean.z_0.shape[:1], clean.z_0.dtype)
    order = jnp.arange(1, steps.shape[0] + 1, dtype=jnp.int32)
    total, _ = jax.lax.scan(add_step, BoundTerms(zero, zero, zero, zero), (order, steps, scales))
    return dataclasses.replace(total, prior=prior_term(schedule, weights, clean))


def bound_at(
    t: jax.Array,
    noise: jax.Array,
    schedule: Schedule,
    weights: ModalityWeights,
    model: ModelFunctions,
    batch: Batch,
    presence: Masks | None = None,
    recovery_weights: ArrayLike | None = None,
) -> BoundTerms:
    """The one-t estimate of the bound at given t and noise; its mean over t = 1 … T is the bound.

    L1 becomes T times its summand at t (none at t = 1), L2 becomes T π_t times its summand, and
    L3 is T times the reconstruction at t = 1 and zero elsewhere. L0 needs no t.

    Args:
        t: (batch,) integers in 1 … T.
        noise: (batch, *latent), ε ~ N(0, I).
        schedule: the noise schedule.
        weights: the modality weights.
        model: the model as plain functions.
        batch: {name: x (batch, …)} for every modality.
        presence: {name: (batch,) of 0 or 1}; left out, all is present.
        recovery_weights: (T,) values π_t ≥ 0 that sum to one; left out, uniform.

    Returns:
        Four per-example arrays, nats.

    Raises:
        ValueError: as `bound`.
    """
    present, clean = prepare(schedule, weights, model, batch, presence)
    pi = _recovery_weights(schedule, recovery_weights)
    return _at(schedule, weights, model, batch, present, clean, pi, t, noise)


def bound_estimate(
    key: jax.Array,
    schedule: Schedule,
    weights: ModalityWeights,
    model: ModelFunctions,
    batch: Batch,
    presence: Masks | None = None,
    recovery_weights: ArrayLike | None = None,
    timesteps: str = "uniform",
) -> BoundTerms:
    """An unbiased estimate of the bound from one t an example, for one network call.

    Args:
        key: a typed key.
        schedule: the noise schedule.
        weights: the modality weights.
        model: the model as plain functions.
        batch: {name: x (batch, …)} for every modality.
        presence: {name: (batch,) of 0 or 1}; left out, all is present.
        recovery_weights: (T,) values π_t ≥ 0 that sum to one; left out, uniform.
        timesteps: how t is drawn: "uniform", "antithetic" or "stratified".

    Returns:
        Four per-example arrays, nats.

    Raises:
        ValueError: as `bound`, or an unknown draw.
    """
    key = as_key("key", key)
    present, clean = prepare(schedule, weights, model, batch, presence)
    pi = _recovery_weights(schedule, recovery_weights)
    t, noise = draw_t_and_noise(key, schedule, clean, timesteps)
    return _at(schedule, weights, model, batch, present, clean, pi, t, noise)


def draw_t_and_noise(
    key: jax.Array, schedule: Schedule, clean: CleanState, timesteps: str
) -> tuple[jax.Array, jax.Array]:
    """Draws one t an example and the noise that goes with it.

    Raises:
        ValueError: an unknown draw; no key, schedule or clean state.
    """
    key = as_key("key", key)
    expect("schedule", schedule, Schedule)
    expect("clean", clean, CleanState, "encode the batch by objective.encode")
    expect_name("timesteps", timesteps, TIMESTEP_DRAWS)
    t_key, noise_key = jax.random.split(key)
    t = TIMESTEP_DRAWS[timesteps](t_key, clean.z_0.shape[0], schedule.num_steps)
    return t, jax.random.normal(noise_key, clean.z_0.shape, clean.z_0.dtype)


def step_noise(key: jax.Array, t: jax.Array, like: jax.Array) -> jax.Array:
    """The noise the full sum uses at step t: normal draws from `fold_in(key, t)`.

    Raises:
        ValueError: no key, t that is no integer, or `like` is no array.
    """
    key, like, t = as_key("key", key), as_array("like", like), as_array("t", t, "an integer")
    if t.ndim or not jnp.issubdtype(t.dtype, jnp.integer):
        raise ValueError(errors.message("t", described(t), "one integer", "pass one step"))
    if not jnp.issubdtype(like.dtype, jnp.floating):
        raise ValueError(errors.message("like", described(like), "a floating dtype", "cast it"))
    return jax.random.normal(jax.random.fold_in(key, t), like.shape, like.dtype)


def prepare(
    schedule: Schedule,
    weights: ModalityWeights,
    model: ModelFunctions,
    batch: Batch,
    presence: Masks | None,
) -> tuple[dict[str, jax.Array], CleanState]:
    """Checks process, model and batch once: the filled-in presence masks and the encoded batch.

    Raises:
        ValueError: weights of another schedule or other modalities, bad masks or batches.
    """
    check_weights(schedule, weights)
    check_model(weights, model)
    present = present_in(model, batch, presence)
    return present, encode(model, batch, present)


def _at(
    schedule: Schedule,
    weights: ModalityWeights,
    model: ModelFunctions,
    batch: Batch,
    present: Masks,
    clean: CleanState,
    pi: jax.Array,
    t: jax.Array,
    noise: jax.Array,
) -> BoundTerms:
    state = observe(schedule, weights, model, clean, present, t, noise)
    t, noise = state.t, state.noise
    posterior = schedule.num_steps * posterior_term(schedule, weights, model, clean, state)
    recovery = sum(
        recovery_terms(model, batch, present, state).values(), jnp.zeros(t.shape, noise.dtype)
    )
    reconstruction = reconstruction_term(model, batch, present, state)
    return BoundTerms(
        prior=prior_term(schedule, weights, clean),
        posterior=where_present(present[model.primary], posterior),
        recovery=schedule.num_steps * pi[t - 1].astype(noise.dtype) * recovery,
        reconstruction=jnp.where(
            t == 1, schedule.num_steps * reconstruction, jnp.zeros_like(reconstruction)
        ),
    )


def _recovery_weights(schedule: Schedule, values: ArrayLike | None) -> jax.Array:
    if values is None:
        return jnp.full((schedule.num_steps,), 1 / schedule.num_steps)
    pi = as_array("recovery_weights", values)
    if pi.shape != (schedule.num_steps,):
        raise ValueError(
            errors.message(
                "recovery_weights",
                f"shape {pi.shape}",
                f"shape ({schedule.num_steps},), one π_t for each t = 1 … T",
                "give T values that sum to one",
            )
        )
    if isinstance(pi, jax.core.Tracer):
        return pi
    # On the host: under jit the sum of known values would be traced.
    total, least = float(np.asarray(pi).sum()), float(np.asarray(pi).min())
    if not (least >= 0 and abs(total - 1) <= 1e-4):
        raise ValueError(
            errors.message(
                "recovery_weights",
                f"a sum of {total} and a minimum of {least}",
                "values of at least 0 that sum to one",
                "divide them by their sum; otherwise the total bounds nothing",
            )
        )
    return pi
