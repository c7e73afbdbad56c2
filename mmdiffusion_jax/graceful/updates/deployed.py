"""What a deployed model makes of the latents of other encoders, and of what is asked at noise.

Pure functions of models as plain callables, for losses of any kind.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from mmdiffusion_jax import errors, objective
from mmdiffusion_jax.objective.absence import without_absent
from mmdiffusion_jax.objective.loss_terms import mean_where
from mmdiffusion_jax.objective.losses import mean_square
from mmdiffusion_jax.process import ModalityWeights, ModelFunctions, Schedule

Read = Callable[[jax.Array], jax.Array]
"""A latent of the successor's → as the deployed model reads it."""


def with_encoders(
    deployed: ModelFunctions, successor: ModelFunctions, read: Read = lambda z: z
) -> ModelFunctions:
    """The deployed denoiser and heads on the successor's encoders.

    Args:
        deployed: the model that reads.
        successor: has all its modalities.
        read: turns a latent of the successor's into one of the deployed model's.

    Returns:
        The deployed model with other `encode` functions.

    Raises:
        ValueError: a modality that the successor lacks.
    """
    for name in deployed.modalities:
        if name not in successor.modalities:
            raise ValueError(errors.unknown("successor", name, successor.modalities))
    modalities = {
        name: dataclasses.replace(own, encode=_chained(read, successor.modalities[name].encode))
        for name, own in deployed.modalities.items()
    }
    return dataclasses.replace(deployed, modalities=modalities)


def deployed_terms(
    key: jax.Array,
    schedule: Schedule,
    weights: ModalityWeights,
    model: ModelFunctions,
    batch: objective.state.Batch,
    presence: objective.state.Masks | None = None,
    *,
    modality_scales: Mapping[str, float] | None = None,
    dropout: Mapping[str, float] | None = None,
) -> tuple[jax.Array, jax.Array]:
    """What the deployed denoiser and the deployed heads lose on the latents of other encoders.

    Args:
        key: a typed key.
        schedule: of the deployed model.
        weights: of the deployed model.
        model: from `with_encoders`.
        batch: {name: x (batch, …)}.
        presence: {name: (batch,) of 0 or 1}; left out, all is present.
        modality_scales: λ_i of the deployed model's training.
        dropout: of the deployed model's training.

    Returns:
        (E_t ‖ε − ε_old‖² / dims, Σ_i λ_i · −log p_old(x_i | z_t) / dims_i in nats), two scalars.
        The gradient flows into the encoders alone.

    Raises:
        ValueError: as `objective.simple_loss`.
    """
    loss, scalars = objective.simple_loss(
        key,
        schedule,
        weights,
        dataclasses.replace(model, variance="posterior"),
        batch,
        presence,
        modality_scales=modality_scales,
        dropout=dropout,
    )
    error = scalars[f"{model.primary}/squared_error"]
    return error, loss - error


def latents_apart(
    successor: ModelFunctions,
    deployed: ModelFunctions,
    batch: objective.state.Batch,
    presence: objective.state.Masks | None = None,
) -> jax.Array:
    """Σ_i E ‖E_i,new(x_i) − E_i,old(x_i)‖² / dims over the deployed modalities, a scalar.

    A difference δ of the encodings moves z_t by w̄_t δ, and the deployed denoiser takes it for noise
    or for a part of z_0. No gradient flows into the deployed encoders.

    Args:
        successor: has all of the deployed model's modalities.
        deployed: the model whose latents are stored.
        batch: {name: x (batch, …)} of the deployed model's modalities.
        presence: {name: (batch,) of 0 or 1}; left out, all is present.

    Raises:
        ValueError: masks or batches that do not fit.
    """
    present = objective.present_in(deployed, batch, presence)
    total = jnp.zeros(())
    for name, own in deployed.modalities.items():
        x = without_absent(present[name], batch[name])
        stored = jax.lax.stop_gradient(own.encode(x))
        error = mean_square(successor.modalities[name].encode(x) - stored)
        total += mean_where(error, present[name])
    return total


def heads_at_noise(
    key: jax.Array,
    schedule: Schedule,
    weights: ModalityWeights,
    model: ModelFunctions,
    batch: objective.state.Batch,
    name: str,
    presence: objective.state.Masks | None = None,
) -> Any:
    """What a head says of states that do not carry its modality, at one t an example.

    Two models with latents of one shape and equally many steps, asked with the same key, see the
    same t and the same noise; else what noise alone changes would count as a change of mind.

    Args:
        key: a typed key.
        schedule: of the model.
        weights: of the model.
        model: the model.
        batch: {name: x (batch, …)}.
        name: whose head.
        presence: {name: (batch,) of 0 or 1}; left out, all is present.

    Returns:
        The head's parameters.

    Raises:
        ValueError: an unknown name, masks or batches that do not fit.
    """
    if name not in model.modalities:
        raise ValueError(errors.unknown("name", name, model.modalities))
    present = objective.present_in(model, batch, presence)
    carried = {**present, name: jnp.zeros_like(present[name])}
    clean = objective.encode(model, batch, carried)
    t, noise = objective.draw_t_and_noise(key, schedule, clean, "uniform")
    state = objective.observe(schedule, weights, model, clean, carried, t, noise)
    return state.prediction.heads[name]


def _chained(outer: Read, inner: Read) -> Read:
    return lambda x: outer(inner(x))
