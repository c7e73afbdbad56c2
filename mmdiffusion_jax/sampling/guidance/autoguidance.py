"""Autoguidance: the difference between two models, amplified."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from mmdiffusion_jax import errors
from mmdiffusion_jax.model import Denoiser, Diffusion, NoisyState, Roles
from mmdiffusion_jax.model.diffusion import expect_diffusion
from mmdiffusion_jax.process import Process
from mmdiffusion_jax.process.checks import expect_number
from mmdiffusion_jax.process.forward import root_at
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
    what the states carry beside z_0 has the encodings of the model that is sampled. In a list of
    decorators it goes first: what is in front of it guides the sampled model alone, and would be
    amplified as a part of the difference.

    Args:
        weaker: its process is the one that is sampled.
        scale: 1 is no guidance, 0 samples the weaker model, above 1 amplifies the difference.
        interval: as in `classifier_free_guidance`.
        rescale: as in `classifier_free_guidance`.
        limit: as in `classifier_free_guidance`.

    Raises:
        ValueError: no diffusion, a scale that is no finite number, an interval that is empty, φ or
            a limit out of range; when sampling, a weaker model that lacks what is given or
            diffused, or whose process has another number of steps, other modalities or, outside
            jit, other tables.

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
        _check_process(theirs.diffusion.process, query.diffusion.process)
        weak = plain_denoiser(theirs)

        def guide(t: jax.Array, z_t: jax.Array, roles: Roles) -> NoisyState:
            plain = denoiser(t, z_t, roles)
            seen = dataclasses.replace(roles, encodings=_noised(theirs, query, roles))
            less, model = weak(t, z_t, seen).clean, theirs.diffusion.model
            primary = model.primary_encoding(less.z_0, less.encodings)
            parts = {**plain.clean.encodings, model.primary: primary}
            without = query.diffusion.model.clean_state(parts)
            return options.amplify(query.diffusion.process.schedule, plain, without, scale)

        return guide

    return decorate


def _noised(theirs: Query, ours: Query, roles: Roles) -> dict[str, jax.Array]:
    """The weaker model's encodings of what is given, under the noise that ours are shown with."""
    schedule, encodings = ours.diffusion.process.schedule, dict(theirs.encodings)
    for name, level in roles.levels.items():
        if name in encodings:
            noisy, step = roles.encodings[name], jnp.round(level * schedule.num_steps)
            signal = root_at(schedule.alpha_bar, step.astype(jnp.int32), noisy)
            encodings[name] = noisy + signal * (encodings[name] - ours.encodings[name])
    return encodings


def _check_process(weaker: Process, sampled: Process) -> None:
    """Checks that the weaker model's process is the one that is sampled.

    Raises:
        ValueError: another number of steps or other modalities; outside jit, other tables.
    """

    def differ(got: str, expected: str) -> ValueError:
        mend = "guide by a model that was trained with the same process"
        return errors.invalid("weaker", f"a process {got}", f"{expected}, as is sampled", mend)

    if weaker.num_steps != sampled.num_steps:
        raise differ(f"of {weaker.num_steps} steps", f"one of {sampled.num_steps}")
    if weaker.names != sampled.names:
        raise differ(f"that {list(weaker.names)} drive", f"one that {list(sampled.names)} drive")
    if any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves((weaker, sampled))):
        return
    if not _are_near(weaker.schedule.alpha_bar, sampled.schedule.alpha_bar):
        raise differ("with another noise schedule", "one with the same ᾱ_t")
    for name in sampled.names:
        if not _are_near(weaker.weights.marginal[name], sampled.weights.marginal[name]):
            raise differ(f"with other weights of {name!r}", "one with the same w̄_t")


def _are_near(table: jax.Array, other: jax.Array) -> bool:
    """Whether tables are the same but for their precision, float32 at least."""
    one, two = (np.asarray(x, np.float64) for x in (table, other))
    return np.allclose(one, two, rtol=1e-4, atol=1e-6 * float(np.abs(two).max()))
