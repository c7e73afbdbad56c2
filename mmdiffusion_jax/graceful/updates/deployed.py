"""What a deployed model makes of the latents of other encoders, and of what is asked at noise.

Pure functions of models as plain callables, for losses of any kind.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

from mmdiffusion_jax import errors, objective
from mmdiffusion_jax.model import (
    Batch,
    Diffusion,
    ModelFunctions,
    Presence,
    encode,
    observe,
    training_roles,
)
from mmdiffusion_jax.model.absence import without_absent
from mmdiffusion_jax.objective.losses import mean_square

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
            raise errors.unknown("successor", name, successor.modalities)
    modalities = {
        name: dataclasses.replace(own, encode=_chained(read, successor.modalities[name].encode))
        for name, own in deployed.modalities.items()
    }
    return dataclasses.replace(deployed, modalities=modalities)


def deployed_terms(
    key: jax.Array,
    diffusion: Diffusion,
    batch: Batch,
    presence: Presence | None = None,
    options: objective.LossOptions | None = None,
) -> tuple[jax.Array, jax.Array]:
    """What the deployed denoiser and the deployed heads lose on the latents of other encoders.

    Args:
        key: a typed key.
        diffusion: the deployed process, and the model from `with_encoders`.
        batch: {name: x (batch, …)}.
        presence: {name: (batch,) of 0 or 1}; left out, all is present.
        options: λ_i and dropout of the deployed model's training; left out, the defaults.

    Returns:
        (E_t ‖ε − ε_old‖² / dims, Σ_i λ_i · −log p_old(x_i | z_t) / dims_i in nats), two scalars.
        The gradient flows into the encoders alone.

    Raises:
        ValueError: as `objective.simple_loss`.
    """
    model = dataclasses.replace(diffusion.model, variance="posterior")
    terms = objective.simple_loss_terms(
        key, Diffusion(diffusion.process, model), batch, presence, options
    )
    means = terms.means()
    error = means.pop(f"{model.primary}/squared_error").value
    return error, terms.weigh(means)


def latents_apart(
    successor: ModelFunctions,
    deployed: ModelFunctions,
    batch: Batch,
    presence: Presence | None = None,
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
    roles = training_roles(deployed.modalities, batch, presence)
    terms = {}
    for name, own in deployed.modalities.items():
        x = without_absent(roles.present(name), batch[name])
        stored = jax.lax.stop_gradient(own.encode(x))
        error = mean_square(successor.modalities[name].encode(x) - stored)
        terms[name] = objective.LossTerm(error, roles.present(name))
    return objective.LossTerms(terms).reduce()[0]


def heads_at_noise(
    key: jax.Array, diffusion: Diffusion, batch: Batch, name: str, presence: Presence | None = None
) -> Any:
    """What a head says of states that do not carry its modality, at one t an example.

    Two models with latents of one shape and equally many steps, asked with the same key, see the
    same t and the same noise; else what noise alone changes would count as a change of mind.

    Args:
        key: a typed key.
        diffusion: the process and the model.
        batch: {name: x (batch, …)}.
        name: whose head.
        presence: {name: (batch,) of 0 or 1}; left out, all is present.

    Returns:
        The head's parameters.

    Raises:
        ValueError: an unknown name, masks or batches that do not fit.
    """
    model, schedule = diffusion.model, diffusion.process.schedule
    if name not in model.modalities:
        raise errors.unknown("name", name, model.modalities)
    roles = training_roles(model.modalities, batch, presence).without(name)
    clean = encode(model, batch, roles)
    t, noise = objective.draw_t_and_noise(key, schedule, clean, "uniform")
    state = observe(diffusion, clean, roles, t, noise)
    return state.prediction.heads[name]


def _chained(outer: Read, inner: Read) -> Read:
    return lambda x: outer(inner(x))
