"""Losses of a deployed model on the latents of other encoders, and its heads on noisy states.

Pure functions of models as plain callables.
"""

import dataclasses
from collections.abc import Callable, Collection
from typing import Any

import jax

from mmdiffusion_jax import objective, ranges
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
from mmdiffusion_jax.model.tasks import conditional_roles
from mmdiffusion_jax.objective.losses import mean_square

LatentMap = Callable[[jax.Array], jax.Array]
"""Latents of the successor → latents of the deployed model."""


def with_encoders(
    deployed: ModelFunctions, successor: ModelFunctions, mapping: LatentMap = lambda z: z
) -> ModelFunctions:
    """The deployed denoiser and heads on the successor's encoders: D_old(mapping(E_new(x))).

    Args:
        deployed: gives denoiser and heads.
        successor: gives the encoders; has all modalities of the deployed model.
        mapping: from latents of the successor to latents of the deployed model.

    Returns:
        The deployed model with other `encode` functions.

    Raises:
        ValueError: a modality that the successor lacks.
    """
    for name in deployed.modalities:
        ranges.check_one_of("successor", name, successor.modalities)
    modalities = {
        name: dataclasses.replace(old, encode=_chained(mapping, successor.modalities[name].encode))
        for name, old in deployed.modalities.items()
    }
    return dataclasses.replace(deployed, modalities=modalities)


def deployed_terms(
    key: jax.Array,
    diffusion: Diffusion,
    batch: Batch,
    presence: Presence | None = None,
    options: objective.LossOptions | None = None,
) -> tuple[jax.Array, jax.Array]:
    """The losses of the deployed denoiser and heads on the latents of other encoders.

    Args:
        key: a typed key.
        diffusion: the deployed process, and the model from `with_encoders`.
        batch: {name: x (batch, …)}.
        presence: {name: (batch,) of 0 or 1}; left out, all is present.
        options: λ_i, dropout and tasks of the deployed model's training; left out, the defaults.

    Returns:
        (E_t ‖ε − ε_old‖² / dims, Σ_i λ_i · −log p_old(x_i | z_t) / dims_i in nats), two scalars;
        the first is a sum over what is diffused. The gradient flows into the encoders alone.

    Raises:
        ValueError: as `objective.simple_loss`.
    """
    model = dataclasses.replace(diffusion.model, variance="posterior")
    terms = objective.simple_loss_terms(
        key, Diffusion(diffusion.process, model), batch, presence, options
    )
    means = terms.means()
    names = (model.primary, *model.diffusable)
    error = sum(means.pop(f"{name}/squared_error").value for name in names)
    return error, terms.weigh(means)


def latent_distance(
    successor: ModelFunctions,
    deployed: ModelFunctions,
    batch: Batch,
    presence: Presence | None = None,
) -> jax.Array:
    """Σ_i E ‖E_i,new(x_i) − E_i,old(x_i)‖² / dims over the deployed modalities, a scalar.

    A difference δ of the encodings shifts z_t by w̄_t δ, which the deployed denoiser takes for noise
    or for a part of z_0. No gradient flows into the deployed encoders.

    Args:
        successor: has all of the deployed model's modalities.
        deployed: the model whose latents are stored.
        batch: {name: x (batch, …)} of the deployed model's modalities.
        presence: {name: (batch,) of 0 or 1}; left out, all is present.

    Raises:
        ValueError: masks or batches that do not fit.
    """
    roles = training_roles(deployed, batch, presence)
    terms = {}
    for name, old in deployed.modalities.items():
        x = without_absent(roles.present(name), batch[name])
        stored = jax.lax.stop_gradient(old.encode(x))
        error = mean_square(successor.modalities[name].encode(x) - stored)
        terms[name] = objective.LossTerm(error, roles.present(name))
    return objective.LossTerms(terms).reduce()[0]


def heads_at_noise(
    key: jax.Array,
    diffusion: Diffusion,
    batch: Batch,
    name: str,
    presence: Presence | None = None,
    given: Collection[str] = (),
) -> Any:
    """The prediction of a head from states z_t without its modality, at one t an example.

    Two models with latents of one shape and equally many steps get the same t and noise from the
    same key, so that their predictions do not differ by noise. A model that is shown what is given
    answers from that alone, as it does when values are asked of it.

    Args:
        key: a typed key.
        diffusion: the process and the model.
        batch: {name: x (batch, …)}.
        name: of the head's modality.
        presence: {name: (batch,) of 0 or 1}; left out, all is present.
        given: what the network is shown, in the place of states that carry all other modalities.

    Returns:
        The parameters of the head's distribution, such as logits.

    Raises:
        ValueError: an unknown name, masks or batches that do not fit, or given names that the model
            does not show.
    """
    model, schedule = diffusion.model, diffusion.process.schedule
    ranges.check_one_of("name", name, model.modalities)
    if given:
        roles = conditional_roles(model, batch, presence, given, (name,))
    else:
        roles = training_roles(model, batch, presence).without(name)
    clean, roles = encode(model, batch, roles)
    t, noise = objective.draw_t_and_noise(key, schedule, clean, "uniform")
    state = observe(diffusion, clean, roles, t, noise)
    return state.prediction.heads[name]


def _chained(outer: LatentMap, inner: LatentMap) -> LatentMap:
    return lambda x: outer(inner(x))
