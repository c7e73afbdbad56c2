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
    ask_modality,
    function_of,
    head_of,
)
from mmdiffusion_jax.process import Process, Schedule, to_pivot
from mmdiffusion_jax.process.checks import expect, expect_number
from mmdiffusion_jax.sampling.method import Method, as_shape, check_given
from mmdiffusion_jax.sampling.sample import sample
from mmdiffusion_jax.sampling.walk import fold, normal, sample_keys

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

    The states of the unknown modalities walk from T to 0 together, as one larger state, while the
    known ones stay clean at t = 0. The clean state of a secondary modality is the mean of its
    encoding under its head. In the end the heads are asked once more about the clean states. Where
    the primary is given, the others are read at once from pure noise, t = T: their heads then give
    p(x_i | what is given) itself.

    Args:
        key: a typed key, example k then uses `fold_in(key, k)`; or (num_samples,) typed keys.
        schedule: the noise schedule.
        model: the model as plain functions.
        shape: (num_samples, *latent).
        given: {name: x (num_samples, …)}, the known modalities; left out, all are generated.
        method: its stepper and its times count.
        limit: keeps the primary's clean state within ± limit.

    Returns:
        {name: the most likely x} for every modality, the given ones as they came.

    Raises:
        ValueError: an unknown modality, a given array of another batch size, a bad grid
            or limit, functions of the model that answer in other shapes, or nothing left to
            generate.

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
    unknown = [name for name in (model.primary, *model.secondaries) if name not in given]
    dtype = jnp.zeros(()).dtype
    known = {
        name: ask_modality(model, name, "encode", x, shape=shape, dtype=dtype)
        for name, x in given.items()
    }
    zeros = jnp.zeros(shape[:1], jnp.int32)

    def ask(t: jax.Array, z: jax.Array) -> tuple[jax.Array, Prediction]:
        """The clean states of what is unknown, (batch, unknown, *latent), and the whole answer."""
        states = {**known, **{name: z[:, index] for index, name in enumerate(unknown)}}
        answer = model.ask(states, {name: t if name in unknown else zeros for name in states})
        clean = []
        for name in unknown:
            if name != model.primary:
                head = head_of(answer, name)
                clean.append(
                    ask_modality(model, name, "expected_encoding", head, shape=shape, dtype=z.dtype)
                )
            else:
                at_least = jnp.maximum(t, 1)
                pair = to_pivot(schedule, at_least, states[name], answer.value, model.target)
                inside = pair.z_0 if limit is None else jnp.clip(pair.z_0, -limit, limit)
                clean.append(jnp.where((t > 0).reshape(_column(z)), inside, states[name]))
        return jnp.stack(clean, axis=1), answer

    whole = (shape[0], len(unknown), *shape[1:])
    if model.primary in given:
        noise = normal(fold(keys, _NOISE), whole)
        _, answer = ask(jnp.full_like(zeros, schedule.num_steps), noise)
        return {**given, **{name: _most_likely(model, name, answer) for name in unknown}}

    state = ModalityFunctions(encode=lambda z: z, log_prob=lambda z, x: x, most_likely=lambda z: z)
    as_one = ModelFunctions(
        denoise=lambda z, t: Prediction(ask(t, z)[0], {}),
        modalities={"state": state},
        primary="state",
        target="z_0",
    )
    clean = sample(keys, Diffusion(Process(schedule), as_one), whole, method=method)["state"]
    _, answer = ask(zeros, clean)
    values = {name: _most_likely(model, name, answer) for name in unknown if name != model.primary}
    reconstruct = function_of(model, model.primary, "reconstruct")
    head = reconstruct(clean[:, 0], answer.heads.get(model.primary))
    values[model.primary] = ask_modality(
        model, model.primary, "most_likely", head, shape=(shape[0], ...)
    )
    return {**given, **values}


def _most_likely(model: SeparateFunctions, name: str, answer: Prediction) -> jax.Array:
    size = answer.value.shape[0]
    return ask_modality(model, name, "most_likely", head_of(answer, name), shape=(size, ...))


def _column(z: jax.Array) -> tuple[int, ...]:
    """The shape that broadcasts (batch,) over one modality's state."""
    return (-1,) + (1,) * (z.ndim - 2)
