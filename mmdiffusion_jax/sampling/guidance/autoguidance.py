"""Autoguidance: the difference between two models, amplified."""

import dataclasses
import math

import jax

from mmdiffusion_jax.model import Denoiser, Diffusion, NoisyState, Roles
from mmdiffusion_jax.model.diffusion import expect_diffusion
from mmdiffusion_jax.process.checks import expect_number
from mmdiffusion_jax.sampling.guidance.options import EVERYWHERE, GuidanceOptions
from mmdiffusion_jax.sampling.query import Decorator, Query, make_query, plain_denoiser


def autoguidance(
    weaker: Diffusion,
    scale: float,
    interval: tuple[float, float] = EVERYWHERE,
    rescale: float = 0.0,
    limit: float = math.inf,
) -> Decorator:
    """ẑ_0 ← ẑ_0(weaker) + scale · ( ẑ_0 − ẑ_0(weaker) ) (Karras et al. 2024).

    The weaker model is a smaller one, or an earlier checkpoint of the same. It makes the same kind
    of errors, but larger ones, so that the difference points away from them; unlike classifier-free
    guidance this does not cost variety, and it serves samples of which nothing is given. It costs a
    call of the weaker model. The network of that one is shown what is known in its own encodings;
    what the states carry beside z_0 has the encodings of the model that is sampled.

    Args:
        weaker: its process is the one that is sampled.
        scale: 1 is no guidance, 0 samples the weaker model, above 1 amplifies the difference.
        interval: as in `classifier_free_guidance`.
        rescale: as in `classifier_free_guidance`.
        limit: as in `classifier_free_guidance`.

    Raises:
        ValueError: no diffusion, a scale that is no finite number, an interval that is empty, φ or
            a limit out of range; when sampling, a weaker model that lacks what is given or
            diffused.

    Example:
        >>> from mmdiffusion_jax import model, process
        >>> image = model.ModalityFunctions(encode=lambda x: x, log_prob=lambda mean, x: mean[:, 0])
        >>> functions = model.ModelFunctions(
        ...     lambda z_t, t: model.Prediction(0 * z_t, {}), {"image": image}, "image"
        ... )
        >>> earlier = model.Diffusion(process.Process(process.cosine_schedule(100)), functions)
        >>> decorate = autoguidance(earlier, 2.0)
    """
    options = GuidanceOptions(interval, rescale, limit)
    expect_diffusion(weaker)
    expect_number("scale", scale)

    def decorate(denoiser: Denoiser, query: Query) -> Denoiser:
        if not isinstance(scale, jax.core.Tracer) and scale == 1:
            return denoiser
        shape = next((x.shape for x in query.encodings.values()), ())
        theirs = make_query(weaker.of(query.diffusion.model.primary), query.given, shape)
        weak = plain_denoiser(theirs)

        def guide(t: jax.Array, z_t: jax.Array, roles: Roles) -> NoisyState:
            plain = denoiser(t, z_t, roles)
            seen = dataclasses.replace(roles, encodings=theirs.encodings, levels={})
            without = weak(t, z_t, seen).clean.z_0
            return options.amplify(query.diffusion.process.schedule, plain, without, scale)

        return guide

    return decorate
