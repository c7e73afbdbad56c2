"""The loss of the rival formulation, in which every modality has its own noise and time."""

import jax
import jax.numpy as jnp

from mmdiffusion_jax.baselines.separate.functions import SeparateFunctions, separate_state
from mmdiffusion_jax.model import Batch, Presence, function_of, head_of, training_roles
from mmdiffusion_jax.model.batches import column
from mmdiffusion_jax.model.calls import encode_present, nll_present
from mmdiffusion_jax.objective.loss_terms import LossTerm, LossTerms
from mmdiffusion_jax.objective.losses import LossOptions, modality_scales_of, noise_error
from mmdiffusion_jax.process import Pivot, Schedule, from_pivot, to_pivot
from mmdiffusion_jax.process.checks import as_key, expect, widest


def separate_loss_terms(
    key: jax.Array,
    schedule: Schedule,
    model: SeparateFunctions,
    batch: Batch,
    presence: Presence | None = None,
    options: LossOptions | None = None,
) -> LossTerms:
    """E_{t_1 … t_N} [ weight(SNR_t) · ‖ε − ε_θ‖² / dims + Σ_i λ_i · ℓ_i(x_i, D_i) / dims_i ].

    All t_i are independent and uniform on 0 … T, so that one network learns the joint distribution,
    every conditional (t = 0) and every marginal (t = T) at once (Bao et al. 2023, equation 5). The
    secondary modalities are recovered by the likelihoods of their heads, as in `simple_loss`, so
    that the two formulations differ in their states alone; the posterior mean of E_i under its head
    is the estimate of the clean z^i (Dieleman et al. 2022, section 3).

    Only t_i > 0 counts in the loss of modality i, as z^i at t_i = 0 is E_i(x_i) itself. A modality
    that is absent has t_i = T and does not count.

    Args:
        key: a typed key; splits into times and noises.
        schedule: the noise schedule, of all modalities.
        model: the model as plain functions.
        batch: {name: x (batch, …)} for every modality.
        presence: {name: (batch,) of 0 or 1}; left out, all is present.
        options: scales λ_i and the weighting of the primary; the rest is not used. Left out, the
            defaults.

    Returns:
        Terms with the names of `simple_loss`.

    Raises:
        ValueError: bad masks, batches or scales.

    Example:
        >>> from mmdiffusion_jax import model, process
        >>> point = model.ModalityFunctions(
        ...     encode=lambda x: x,
        ...     log_prob=lambda mean, x: -jnp.sum((x - mean) ** 2, axis=1),
        ... )
        >>> functions = SeparateFunctions(
        ...     denoise=lambda z, t: model.Prediction(jnp.zeros_like(z["point"]), {}),
        ...     modalities={"point": point}, primary="point",
        ... )
        >>> batch = {"point": jnp.zeros((512, 2))}
        >>> loss, _ = separate_loss_terms(
        ...     jax.random.key(0), process.cosine_schedule(10), functions, batch
        ... ).reduce()
        >>> bool(0.9 < loss < 1.1)  # the mean square of the noise
        True
    """
    key = as_key("key", key)
    expect("schedule", schedule, Schedule)
    expect("model", model, SeparateFunctions)
    options = expect("options", LossOptions() if options is None else options, LossOptions)
    scales = modality_scales_of(model, options.modality_scales)
    roles = training_roles(model, batch, presence)
    columns = {name: column(batch, name) for name in model.modalities}
    size = columns[model.primary].shape[0]
    encodings = {
        name: encode_present(model, name, x, roles.present(name)) for name, x in columns.items()
    }
    dtype = widest(jnp.zeros((), jnp.float32), encodings[model.primary])
    encodings = {name: encoding.astype(dtype) for name, encoding in encodings.items()}
    states: dict[str, jax.Array] = {}
    times: dict[str, jax.Array] = {}
    for index, name in enumerate((model.primary, *model.secondaries)):
        time_key, noise_key = jax.random.split(jax.random.fold_in(key, index))
        t = jax.random.randint(time_key, (size,), 0, schedule.num_steps + 1, dtype=jnp.int32)
        times[name] = jnp.where(roles.present(name), t, schedule.num_steps)
        noise = jax.random.normal(noise_key, encodings[name].shape, encodings[name].dtype)
        if name == model.primary:
            pivot = Pivot(encodings[name], noise)
        states[name] = separate_state(schedule, times[name], encodings[name], noise)
    prediction = model.predict(states, times)

    counts = {name: roles.present(name) & (times[name] > 0) for name in states}
    # Where t is 0 nothing counts, and the tables of the parameterisation start at 1.
    t = jnp.maximum(times[model.primary], 1)
    difference = from_pivot(schedule, t, pivot, model.target) - prediction.value
    error = noise_error(schedule, t, difference, model.target, options.weighting)
    terms = {f"{model.primary}/squared_error": LossTerm(error, counts[model.primary])}
    estimate = to_pivot(schedule, t, states[model.primary], prediction.value, model.target)
    heads = {name: head_of(prediction, name) for name in model.secondaries}
    heads[model.primary] = function_of(model, model.primary, "reconstruct")(
        jax.lax.stop_gradient(estimate.z_0), prediction.heads.get(model.primary)
    )
    for name, head in heads.items():
        nats = nll_present(model, name, head, columns[name], roles.present(name), dtype)
        per_dim = nats / model.modalities[name].dims_of(columns[name])
        terms[f"{name}/loss"] = LossTerm(per_dim, counts[name], scales[name])
    return LossTerms(terms)
