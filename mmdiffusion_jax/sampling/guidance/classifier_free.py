"""Classifier-free guidance: the effect of a modality on ẑ_0, amplified."""

import dataclasses
import math

import jax
import jax.numpy as jnp

from mmdiffusion_jax import errors
from mmdiffusion_jax.model import Denoiser, NoisyState, Role, Roles
from mmdiffusion_jax.process.checks import expect_number
from mmdiffusion_jax.process.forward import at, root_at
from mmdiffusion_jax.sampling.guidance.options import EVERYWHERE, GuidanceOptions, check_modality
from mmdiffusion_jax.sampling.query import Decorator, Query


def classifier_free_guidance(
    name: str,
    scale: float,
    interval: tuple[float, float] = EVERYWHERE,
    rescale: float = 0.0,
    limit: float = math.inf,
) -> Decorator:
    """ẑ_0 ← ẑ_0(without i) + scale · ( ẑ_0(with i) − ẑ_0(without i) ) (Ho & Salimans 2022).

    "Without" is the same state with modality i taken out of the drift, z_t − w̄_t^(i) E_i, of its
    share in z_0, and of what the network sees; E_i is the given encoding, or the model's estimate
    where i is generated too. It costs a second call of the model, and training must have dropped
    that modality from some states. What is in front of it in a list of decorators is asked without
    the modality as well: [decoder_guidance(), classifier_free_guidance(…)] amplifies Bayes' term
    too, and the other way round that term is added as it is to what this one amplifies.

    Args:
        name: a modality that training dropped from some states. Where it is itself what is
            diffused, there is no guidance.
        scale: 1 is no guidance, 0 leaves the modality unused, above 1 amplifies it.
        interval: the noise levels σ = sqrt((1 − ᾱ_t) / ᾱ_t) at which to guide, both ends included
            (Kynkäänniemi et al. 2024).
        rescale: φ in [0, 1]; how far the guided ẑ_0 is brought back to the standard deviation of
            ẑ_0 with i, per example (Lin et al. 2024, section 3.4).
        limit: the greatest RMS, per example, of what guidance adds to ẑ_0; more is scaled down.

    Raises:
        ValueError: a scale that is no finite number, an interval that is empty, φ or a limit out of
            range; when sampling, a modality the model lacks, or that is the one that is always
            diffused, or that training never dropped.

    Example:
        >>> decorate = classifier_free_guidance("label", 2.0, interval=(0.3, 5.0))
    """
    options = GuidanceOptions(interval, rescale, limit)
    expect_number("scale", scale)

    def decorate(denoiser: Denoiser, query: Query) -> Denoiser:
        model, process = query.diffusion.model, query.diffusion.process
        if name == model.primary and (model.diffusable or model.only_known):
            return denoiser  # It guides other stages than its own.
        if name not in model.only_known:
            check_modality(query, name)
        if not model.can_drop(name):
            raise errors.invalid(
                "guidance",
                f"{name!r}, which training never dropped",
                f"one of {sorted(model.droppable or ())}",
                "train with some dropout of that modality, or guide by its decoder head",
            )
        if not isinstance(scale, jax.core.Tracer) and scale == 1:
            return denoiser

        def guide(t: jax.Array, z_t: jax.Array, roles: Roles) -> NoisyState:
            plain, drift = denoiser(t, z_t, roles), jnp.zeros_like(z_t)
            estimates = plain.clean.encodings
            if name in process.names:
                encoding = query.encodings.get(name, estimates[name])
                weight = at(process.weights.marginal[name], t, z_t)
                if share := model.normalised_shares().get(name):
                    weight = weight + share * root_at(process.schedule.alpha_bar, t, z_t)
                drift = weight * roles.mask({name: encoding})[name]
            less = denoiser(t, z_t - drift, _not_given(roles, name)).clean
            without = model.with_encodings(less.z_0, less.encodings, estimates)
            return options.amplify(process.schedule, plain, without, scale)

        return guide

    return decorate


def _not_given(roles: Roles, name: str) -> Roles:
    """The same roles, but that nothing has the modality: no state, no network and no caller."""
    roles = roles.without(name)
    value = roles.values[name] & ~int(Role.PRESENT)
    return dataclasses.replace(roles, values={**roles.values, name: value})
