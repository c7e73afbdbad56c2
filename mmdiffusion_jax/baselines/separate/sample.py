"""Sampling in the rival formulation, in which every modality has its own noise and time."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from mmdiffusion_jax.baselines.separate.functions import SeparateFunctions
from mmdiffusion_jax.model import (
    Diffusion,
    ModalityFunctions,
    ModelFunctions,
    Prediction,
    call_modality,
    function_of,
    head_of,
)
from mmdiffusion_jax.process import Process, Schedule, to_pivot
from mmdiffusion_jax.process.checks import expect, expect_number
from mmdiffusion_jax.sampling.loop import fold, normal, sample_keys
from mmdiffusion_jax.sampling.method import Method, as_shape, check_given
from mmdiffusion_jax.sampling.sample import sample

_NOISE = 100


def sample_separate(
    key: jax.Array,
    schedule: Schedule,
    model: SeparateFunctions,
    shape: tuple[int, ...],
    given: Mapping[str, jax.Array] | None = None,
    method: Method | None = None,
    limit: float | None = None,
) -> dict[str, jax.Array]:
    """Generates every modality that is not given.

    The states of the generated modalities go from T to 0 together, as one larger state, while the
    given ones stay clean at t = 0. The estimate of a secondary's clean state is the mean of its
    encoding under its head. In the end the network predicts once more, from the clean states. Where
    the primary is given, it predicts once, with the others pure noise at t = T: then their heads
    are p(x_i | what is given) itself.

    Args:
        key: a typed key, example k then uses `fold_in(key, k)`; or (num_samples,) typed keys.
        schedule: the noise schedule.
        model: the model as plain functions.
        shape: (num_samples, *latent).
        given: {name: x (num_samples, …)}; left out, all modalities are generated.
        method: its stepper and its times count.
        limit: the estimate of the primary's clean state is clipped to ± limit.

    Returns:
        {name: the most likely x} for every modality, the given ones as they came.

    Raises:
        ValueError: as `sample`, or a bad limit.

    Example:
        >>> import jax
        >>> from mmdiffusion_jax import model, process
        >>> pixels = model.ModalityFunctions(
        ...     encode=lambda x: x, log_prob=lambda m, x: m[:, 0], most_likely=lambda m: m
        ... )
        >>> functions = SeparateFunctions(
        ...     denoise=lambda z, t: model.Prediction(jnp.full_like(z["pixels"], 0.5), {}),
        ...     modalities={"pixels": pixels}, primary="pixels", target="z_0",
        ... )
        >>> schedule = process.cosine_schedule(10)
        >>> sample_separate(jax.random.key(0), schedule, functions, (1, 2))["pixels"].tolist()
        [[0.5, 0.5]]
    """
    expect("schedule", schedule, Schedule)
    expect("model", model, SeparateFunctions)
    if limit is not None:
        expect_number("limit", limit, "a number above 0, or None", lambda x: x > 0)
    shape = as_shape(shape)
    given = check_given(model, shape, given)
    keys = sample_keys(key, shape[0])
    generated = [name for name in (model.primary, *model.secondaries) if name not in given]
    dtype = jnp.zeros(()).dtype
    given_encodings = {
        name: call_modality(model, name, "encode", x, shape=shape, dtype=dtype)
        for name, x in given.items()
    }
    zeros = jnp.zeros(shape[:1], jnp.int32)

    def predict(t: jax.Array, z: jax.Array) -> tuple[jax.Array, Prediction]:
        """Clean states of the generated, (batch, generated, *latent), and the whole prediction."""
        states = {**given_encodings, **{name: z[:, k] for k, name in enumerate(generated)}}
        times = {name: t if name in generated else zeros for name in states}
        prediction = model.predict(states, times)
        clean = []
        for name in generated:
            if name != model.primary:
                head = head_of(prediction, name)
                clean.append(
                    call_modality(
                        model, name, "expected_encoding", head, shape=shape, dtype=z.dtype
                    )
                )
            else:
                from_first = jnp.maximum(t, 1)
                pair = to_pivot(schedule, from_first, states[name], prediction.value, model.target)
                inside = pair.z_0 if limit is None else jnp.clip(pair.z_0, -limit, limit)
                clean.append(jnp.where((t > 0).reshape(_column(z)), inside, states[name]))
        return jnp.stack(clean, axis=1), prediction

    whole = (shape[0], len(generated), *shape[1:])
    if model.primary in given:
        noise = normal(fold(keys, _NOISE), whole)
        _, prediction = predict(jnp.full_like(zeros, schedule.num_steps), noise)
        return {**given, **{name: _most_likely(model, name, prediction) for name in generated}}

    state = ModalityFunctions(encode=lambda z: z, log_prob=lambda z, x: x, most_likely=lambda z: z)
    as_one = ModelFunctions(
        denoise=lambda z, t: Prediction(predict(t, z)[0], {}),
        modalities={"state": state},
        primary="state",
        target="z_0",
    )
    clean = sample(keys, Diffusion(Process(schedule), as_one), whole, method=method)["state"]
    _, prediction = predict(zeros, clean)
    values = {
        name: _most_likely(model, name, prediction) for name in generated if name != model.primary
    }
    reconstruct = function_of(model, model.primary, "reconstruct")
    head = reconstruct(clean[:, 0], prediction.heads.get(model.primary))
    values[model.primary] = call_modality(
        model, model.primary, "most_likely", head, shape=(shape[0], ...)
    )
    return {**given, **values}


def _most_likely(model: SeparateFunctions, name: str, prediction: Prediction) -> jax.Array:
    size = prediction.value.shape[0]
    return call_modality(model, name, "most_likely", head_of(prediction, name), shape=(size, ...))


def _column(z: jax.Array) -> tuple[int, ...]:
    """The shape that broadcasts (batch,) over one modality's state."""
    return (-1,) + (1,) * (z.ndim - 2)
