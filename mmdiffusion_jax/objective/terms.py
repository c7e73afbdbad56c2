"""The four terms of the bound, one function each; per example, in nats.

−log p(X) ≤ L0 + L1 + L2 + L3, for a process that ends in noise (L0), whose steps back the model
imitates (L1), from whose states every other modality is recovered (L2), and whose first state
reconstructs the primary modality (L3).
"""

import jax
import jax.numpy as jnp

from mmdiffusion_jax.objective.absence import column, mask_of, nats_present
from mmdiffusion_jax.objective.state import Batch, CleanState, Masks, NoisyState
from mmdiffusion_jax.process import (
    Gaussian,
    ModalityWeights,
    ModelFunctions,
    Schedule,
    function_of,
    gaussian_kl,
    head_of,
    marginal,
    posterior,
    reverse_variance,
)
from mmdiffusion_jax.process.checks import expect


def prior_term(schedule: Schedule, weights: ModalityWeights, clean: CleanState) -> jax.Array:
    """L0 = KL( q(z_T | X) ‖ N(0, I) ): what the last state still knows of the data.

    Args:
        schedule: the noise schedule.
        weights: the modality weights.
        clean: the encoded batch.

    Returns:
        (batch,), nats.

    Raises:
        ValueError: weights of another schedule, or no clean state.

    Example:
        >>> import jax.numpy as jnp
        >>> from mmdiffusion_jax import process
        >>> schedule = process.schedule_from_betas([0.75])
        >>> weights = process.modality_weights(schedule, {})
        >>> nothing = CleanState(z_0=jnp.zeros((1, 1)), drift={})
        >>> round(float(prior_term(schedule, weights, nothing)[0]), 4)
        0.0188
    """
    expect("schedule", schedule, Schedule)
    expect("clean", clean, CleanState, "encode the batch by objective.encode")
    last = jnp.full((clean.z_0.shape[0],), schedule.num_steps, jnp.int32)
    end = marginal(schedule, weights, last, clean.z_0, clean.drift)
    standard = Gaussian(jnp.zeros_like(end.mean), jnp.ones_like(end.variance))
    return gaussian_kl(end, standard)


def posterior_term(
    schedule: Schedule,
    weights: ModalityWeights,
    model: ModelFunctions,
    clean: CleanState,
    state: NoisyState,
    train_mean: bool = True,
) -> jax.Array:
    """One summand of L1: KL( q(z_{t−1} | z_t, X) ‖ p_θ(z_{t−1} | z_t) ), and 0 at t = 1.

    p_θ has the posterior's form with the model's ẑ_0 and Ê_i in place of z_0 and E_i. With the
    posterior's variance this is ‖μ̃_t − μ_θ‖² / (2 β̃_t), which keeps the cross term between the
    error of the noise and the error of the encodings.

    Args:
        schedule: the noise schedule.
        weights: the modality weights.
        model: the model, for its variance.
        clean: the encoded batch.
        state: z_t and the model's answer to it.
        train_mean: False stops the gradient of the mean, so that only the variance learns.

    Returns:
        (batch,), nats.

    Raises:
        ValueError: weights of another schedule, or states that are none.
    """
    expect("schedule", schedule, Schedule)
    expect("model", model, ModelFunctions)
    expect("clean", clean, CleanState, "encode the batch by objective.encode")
    expect("state", state, NoisyState, "make it by objective.observe")
    # t = 1 has no such summand; it is evaluated at t = 2 and masked, so that no variance is zero.
    # A schedule of one step has no summand at all.
    if schedule.num_steps == 1:
        return jnp.zeros(state.t.shape, state.z_t.dtype)
    t = jnp.maximum(state.t, 2)
    truth = posterior(schedule, weights, t, state.z_t, clean.z_0, clean.drift)
    guess = posterior(schedule, weights, t, state.z_t, state.belief.z_0, state.estimates)
    mean = guess.mean if train_mean else jax.lax.stop_gradient(guess.mean)
    variance = reverse_variance(
        schedule, t, state.z_t, model.variance, state.prediction.variance_mix
    )
    divergence = gaussian_kl(truth, Gaussian(mean, variance))
    return jnp.where(state.t > 1, divergence, jnp.zeros_like(divergence))


def recovery_terms(
    model: ModelFunctions, batch: Batch, present: Masks, state: NoisyState
) -> dict[str, jax.Array]:
    """The summands of L2 at one t: −log p_θ(x_i | z_t) of every secondary modality.

    Args:
        model: the model.
        batch: {name: x}.
        present: {name: (batch,) of 0 or 1}; an absent modality contributes zero, whatever stands in
            the batch.
        state: z_t and the model's answer to it.

    Returns:
        {secondary: (batch,)}, nats.

    Raises:
        ValueError: a modality missing from the batch, the masks or the heads, or likelihoods that
            are not one number an example.
    """
    expect("model", model, ModelFunctions)
    expect("state", state, NoisyState, "make it by objective.observe")
    terms = {}
    for name in model.secondaries:
        x, head = column(batch, name, model.modalities), head_of(state.prediction, name)
        mask = mask_of(present, name, x.shape[0])
        terms[name] = nats_present(model, name, head, x, mask, state.z_t.dtype)
    return terms


def reconstruction_term(
    model: ModelFunctions,
    batch: Batch,
    present: Masks,
    state: NoisyState,
    train_mean: bool = True,
) -> jax.Array:
    """−log p_θ(x_primary | z_t); at t = 1 this is L3.

    The primary's own encoding is read from the model's ẑ_0, and its head turns it into a
    distribution.

    Args:
        model: the model.
        batch: {name: x}.
        present: {name: (batch,) of 0 or 1}; an absent primary contributes zero, whatever stands in
            the batch.
        state: z_t and the model's answer to it.
        train_mean: False stops the gradient through ẑ_0.

    Returns:
        (batch,), nats.

    Raises:
        ValueError: the primary missing from the batch or the masks, or likelihoods that are not one
            number an example.
    """
    expect("model", model, ModelFunctions)
    expect("state", state, NoisyState, "make it by objective.observe")
    x = column(batch, model.primary, model.modalities)
    encoding = model.primary_encoding(state.belief.z_0, state.estimates)
    if not train_mean:
        encoding = jax.lax.stop_gradient(encoding)
    reconstruct = function_of(model, model.primary, "reconstruct")
    parameters = reconstruct(encoding, state.prediction.heads.get(model.primary))
    mask = mask_of(present, model.primary, x.shape[0])
    return nats_present(model, model.primary, parameters, x, mask, encoding.dtype)
