"""Guidance by the decoder heads of the model."""

import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from mmdiffusion_jax import errors
from mmdiffusion_jax.model import Denoiser, NoisyState, Roles, call_modality, head_of
from mmdiffusion_jax.model.absence import where_present
from mmdiffusion_jax.process.checks import at_least, expect_names, expect_number
from mmdiffusion_jax.process.forward import at, root_at, weighted_sum
from mmdiffusion_jax.sampling.guidance.options import EVERYWHERE, GuidanceOptions, check_modality
from mmdiffusion_jax.sampling.query import Decorator, Query


def decoder_guidance(
    scales: Mapping[str, float] | None = None,
    interval: tuple[float, float] = EVERYWHERE,
    rescale: float = 0.0,
    limit: float = math.inf,
) -> Decorator:
    """Guidance by the decoder heads of the model: Bayes' rule for given modalities.

    ẑ_0 ← ẑ_0 + Σ_i scale_i G_i / sqrt(ᾱ_t)
    G_i = (1 − ᾱ_t) ∇_z log p_θ(x_i | z_t) − w̄_t^(i) (E_i(x_i) − Ê_i)

    The drift of i in z_t does not tell all of x_i: E[ε | z_t, x_i] is
    E[ε | z_t] − sqrt(1 − ᾱ_t) ∇ log p(x_i | z_t), and the given E_i replaces Ê_i in the shift. With
    scale 1, exact heads and one given modality this makes conditional sampling exact; with several
    it is exact where they are independent given z_t (`Method.corrections` lessen the rest). After
    Dhariwal & Nichol 2021, algorithm 2, whose classifier is a second network.

    Examples whose roles lack the value of i (`Roles.present`) have no G_i, as in the "without" of
    `classifier_free_guidance`. In front of that one in a list of decorators it is so amplified as
    well: at scale 0 the estimate is the unconditional one, at 1 this one. Behind it, Bayes' term is
    added to the amplified estimate as it is.

    Args:
        scales: {secondary modality whose value is given: scale}; 0 is no guidance, 1 is Bayes'
            rule, above 1 amplifies the modality. Left out, 1 for every secondary that is given and
            that the network is not shown: what `Method` has where its `decorators` are left out.
        interval: the noise levels σ = sqrt((1 − ᾱ_t) / ᾱ_t) at which to guide.
        rescale: φ in [0, 1]; as in `classifier_free_guidance`.
        limit: as in `classifier_free_guidance`. The gradients of a modality of many dimensions,
            as an image, can be so steep that the steps between states overshoot, and samples end
            in noise; a limit of 0.1 … 0.3 then keeps them.

    Raises:
        ValueError: a scale that is no finite number, an interval that is empty, φ or a limit out of
            range; when sampling, a modality the model lacks or that is the primary, or whose value
            is not given.

    Example:
        >>> decorate = decoder_guidance({"label": 1.0})
        >>> from mmdiffusion_jax import sampling
        >>> method = sampling.Method(
        ...     decorators=[decoder_guidance(), sampling.static_threshold()]
        ... )
    """
    options = GuidanceOptions(interval, rescale, limit)
    if scales is not None:
        for name, scale in expect_names("scales", scales, "scale").items():
            expect_number(f"scales[{name!r}]", scale)

    def decorate(denoiser: Denoiser, query: Query) -> Denoiser:
        used = _scales_of(query, scales)
        if not used:
            return denoiser
        process, model = query.diffusion.process, query.diffusion.model
        schedule = process.schedule
        tables = {name: process.weights.marginal[name] for name in used}

        def guide(t: jax.Array, z_t: jax.Array, roles: Roles) -> NoisyState:
            def score(z: jax.Array) -> tuple[jax.Array, NoisyState]:
                state = denoiser(t, z, roles)
                total = jnp.zeros((), z.dtype)
                for name, scale in used.items():
                    functions = model.modalities[name]
                    wanted = "condition_log_prob" if functions.condition_log_prob else "log_prob"
                    log_prob = call_modality(
                        model,
                        name,
                        wanted,
                        head_of(state.prediction, name),
                        at_least(query.given[name], z),
                        shape=z.shape[:1],
                        dtype=z.dtype,
                    )
                    total = total + scale * where_present(roles.present(name), log_prob).sum()
                return total, state

            (_, plain), gradient = jax.value_and_grad(score, has_aux=True)(z_t)
            given = roles.mask({name: query.encodings[name] for name in used})
            innovation = {
                name: scale
                * where_present(roles.present(name), given[name] - plain.clean.encodings[name])
                for name, scale in used.items()
            }
            shift = at(schedule.noise_variance, t, z_t) * gradient
            shift = shift - weighted_sum(tables, t, z_t, innovation)
            guided = plain.clean.z_0 + shift / root_at(schedule.alpha_bar, t, z_t)
            estimates = plain.clean.encodings
            moved = {name: estimates[name] + added for name, added in innovation.items()}
            guided = model.with_encodings(guided, {**estimates, **moved}, estimates)
            return options.replace(schedule, plain, guided)

        return guide

    return decorate


def _scales_of(query: Query, scales: Mapping[str, float] | None) -> dict[str, float]:
    """{given secondary: its scale that is not 0}; see `decoder_guidance`.

    Raises:
        ValueError: a modality that the model lacks, that is the primary, or that is not given.
    """
    if scales is None:
        scales = dict.fromkeys(sorted(set(query.given) - set(query.diffusion.model.shows)), 1.0)
    for name in scales:
        check_modality(query, name)
        if name not in query.given:
            raise errors.invalid(
                "guidance",
                f"the decoder head of {name!r}, whose value is not given",
                f"one of the given modalities {sorted(query.given)}",
                "give it, or use the classifier-free form",
            )
    return {
        name: scale
        for name, scale in scales.items()
        if isinstance(scale, jax.core.Tracer) or scale != 0
    }
