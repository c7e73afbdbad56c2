"""Langevin corrections against the exact law of the states, and the draws that they see."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdiffusion_jax import process, sampling
from mmdiffusion_jax.model import Diffusion, ModelFunctions, Prediction, all_carried
from tests import plain_model

COUNT, CORRECTIONS = 20_000, 30
SCHEDULE = process.cosine_schedule(1000)
CENTRES, WITHIN = np.array([-0.9, 0.9]), 0.01
TIMES = (100, 300, 500, 700, 950)


def estimate_of(law):
    """E[x_0 | z_t] where x_0 ~ N(0, law), or of two clusters of variance `WITHIN`."""
    centres, spread = ([0.0], law) if isinstance(law, float) else (CENTRES, WITHIN)
    centres = jnp.asarray(centres, jnp.float32)

    def denoise(z_t, t):
        kept, noise = jnp.sqrt(SCHEDULE.alpha_bar[t])[:, None], SCHEDULE.noise_variance[t][:, None]
        variance = kept**2 * spread + noise
        residual = z_t - kept * centres
        p = jax.nn.softmax(-0.5 * residual**2 / variance)
        means = centres + kept * spread / variance * residual
        return Prediction((p * means).sum(1, keepdims=True), {})

    return denoise


def drawn_of(law, rng):
    if isinstance(law, float):
        return law**0.5 * rng.normal(size=(COUNT, 1))
    return rng.choice(CENTRES, (COUNT, 1)) + WITHIN**0.5 * rng.normal(size=(COUNT, 1))


@pytest.mark.parametrize("t", TIMES)
@pytest.mark.parametrize("law", [0.0, 0.05, 1.0, "clusters"])
def test_the_states_keep_their_variance(law, t):
    """As many corrections as settle, from states that are exact: five standard errors."""
    functions = ModelFunctions(estimate_of(law), {"x": plain_model.point()}, "x", target="z_0")
    diffusion = Diffusion(process.Process(SCHEDULE), functions)
    rng = np.random.default_rng(0)
    bar, noise = (
        np.asarray(table, np.float64) for table in (SCHEDULE.alpha_bar, SCHEDULE.noise_variance)
    )
    x = drawn_of(law, rng)
    start = np.sqrt(bar[t + 1]) * x + np.sqrt(noise[t + 1]) * rng.normal(size=(COUNT, 1))
    last = sampling.run_stepper(
        sampling.plain_denoiser(sampling.Query(diffusion, {}, {})),
        sampling.Method("ddim", corrections=CORRECTIONS),
        sampling.plan(diffusion.process, [t + 1, t]),
        jnp.asarray(start, jnp.float32),
        jax.random.key(0),
        all_carried(["x"], COUNT),
    )
    spread = law if isinstance(law, float) else WITHIN + (CENTRES**2).mean()
    exact = bar[t] * spread + noise[t]
    np.testing.assert_allclose(np.asarray(last).var() / exact, 1, atol=5 * (2 / COUNT) ** 0.5)


@pytest.mark.parametrize("stepper", ["ancestral", "ddim"])
def test_few_states_come_nearer_to_the_law(stepper):
    """Of N(0, 1), whose variance is lost where a step is long; corrections do not overshoot."""
    functions = ModelFunctions(estimate_of(1.0), {"x": plain_model.point()}, "x", target="z_0")
    diffusion = Diffusion(process.Process(SCHEDULE), functions)
    times = sampling.karras_grid(SCHEDULE, 20)
    variances = [
        float(
            sampling.sample(
                jax.random.key(0),
                diffusion,
                (COUNT, 1),
                method=sampling.Method(stepper, times, corrections=corrections),
            )["x"].var()
        )
        for corrections in (0, 4)
    ]
    assert variances[0] < 0.85
    assert variances[0] + 0.05 < variances[1] < 1 + 5 * (2 / COUNT) ** 0.5


@pytest.mark.parametrize("fixed", [False, True])
def test_every_correction_draws_for_itself(fixed):
    """Where encodings are draws, no two calls of one step see the same."""
    seen = []

    def record(denoiser, query):
        def estimate(t, z_t, roles):
            state = denoiser(t, z_t, roles)
            jax.debug.callback(
                lambda *call: seen.append([np.asarray(x) for x in call]),
                t,
                state.clean.encodings["y"],
                ordered=True,
            )
            return state

        return estimate

    x = plain_model.point(latent_mask=lambda mask: mask)
    y = plain_model.point(draw=lambda key, mean: jax.random.normal(key, mean.shape, mean.dtype))
    functions = plain_model.shared(y=y)
    functions = ModelFunctions(functions.denoise, {"x": x, "y": y}, "x")
    part = sampling.Fixed(jnp.ones((3, 2)), jnp.zeros((3, 2), bool))
    sampling.sample(
        jax.random.key(0),
        Diffusion(plain_model.PROCESS, functions),
        (3, 2),
        method=sampling.Method(
            "ddim", [6, 4, 1], decorators=[record], estimate="draw", corrections=3
        ),
        fixed={"x": part} if fixed else None,
    )
    jax.effects_barrier()
    at_four = [encodings for t, encodings in seen if (t == 4).all()]
    # The three corrections after the step to t = 4, and the step from there.
    assert len(at_four) == 4
    values = np.stack(at_four)
    assert len(np.unique(values)) == values.size
