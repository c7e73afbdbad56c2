"""Ancestral steps: DDIM with all of the noise, and the variance that a model learns."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdiffusion_jax import sampling
from mmdiffusion_jax.model import all_carried
from mmdiffusion_jax.process import Process
from tests.mixture_world import MixtureWorld
from tests.stepping import StepRunner

WORLD = MixtureWorld(40)
GRIDS = {
    **{name: build(WORLD.schedule, 12) for name, build in sampling.GRIDS.items()},
    "every": np.arange(40, 0, -1),
    "one's own": np.array([37, 20, 19, 5, 2]),
}


@pytest.fixture(scope="module")
def pair():
    return StepRunner(WORLD, sampling.Ancestral()), StepRunner(WORLD, sampling.DDIM(eta=1.0))


@pytest.mark.parametrize("grid", GRIDS)
def test_ddim_with_all_the_noise_is_ancestral_sampling(grid, pair):
    times, rng = GRIDS[grid], np.random.default_rng(0)
    start, *noises = rng.normal(size=(len(times), 6, 2)).astype(np.float32)
    got = [runner.states(times, jnp.asarray(start), noises) for runner in pair]
    np.testing.assert_allclose(*got, rtol=1e-5, atol=1e-6)


def test_both_draw_the_same_noise_from_the_same_key(pair):
    keys = jax.random.split(jax.random.key(0), 6)
    route = sampling.plan(WORLD.process, GRIDS["karras"])
    start, roles = jnp.ones((6, 2)), all_carried(["x", "label"], 6)
    ends = [
        sampling.run_stepper(
            each.denoiser, sampling.Method(each.stepper), route, start, keys, roles
        )
        for each in pair
    ]
    np.testing.assert_allclose(*ends, rtol=1e-5, atol=1e-6)


def learned(world, mix):
    inner = world.model()

    def denoise(z_t, t, roles):
        return dataclasses.replace(inner.denoise(z_t, t, roles), variance_mix=mix)

    return dataclasses.replace(inner, denoise=denoise, variance="learned")


@pytest.mark.parametrize("times", [[30, 29], [30, 12]], ids=["neighbours", "apart"])
def test_the_learned_variance_lies_between_the_two(times):
    """exp(v log β + (1 − v) log β̃), Nichol & Dhariwal 2021, eq. 15."""
    with jax.enable_x64(True):
        world = MixtureWorld(40)
        mix = jnp.linspace(0.0, 1.0, 10).reshape(5, 2)
        runner = StepRunner(world, sampling.Ancestral(), learned(world, mix))
        start = jnp.ones((5, 2))
        ends = [runner.states(times, start, np.full((1, 5, 2), noise))[-1] for noise in (0.0, 1.0)]
        at_t, at_s = (np.asarray(world.schedule.alpha_bar)[t] for t in times)
        upper = 1 - at_t / at_s
        lower = upper * (1 - at_s) / (1 - at_t)
        exact = upper**mix * lower ** (1 - mix)
        np.testing.assert_allclose((ends[1] - ends[0]) ** 2, exact, rtol=1e-9)


def test_a_model_of_learned_variance_must_give_its_mix():
    with pytest.raises(ValueError, match=r"`prediction.variance_mix`: got None"):
        sampling.sample(jax.random.key(0), WORLD.diffusion(learned(WORLD, None)), (2, 2))


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: sampling.DDIM(eta=1.5), "`eta`: got 1.5"),
        (lambda: sampling.DDIM(eta=-0.1), "`eta`: got -0.1"),
        (lambda: sampling.DPMSolverPP(order=4), "`order`: got 4"),
        (lambda: sampling.DPMSolverPP(order=3, sde=True), "`order`: got 3, expected 2 where sde"),
    ],
)
def test_steppers_that_are_not(build, words):
    with pytest.raises(ValueError, match=words):
        build()


def test_a_schedule_must_be_known_outside_jit():
    def traced(alpha_bar):
        schedule = dataclasses.replace(WORLD.schedule, alpha_bar=alpha_bar)
        return sampling.plan(Process(schedule), [2, 1]).noise

    with pytest.raises(ValueError, match="`process`: got traced values"):
        jax.jit(traced)(WORLD.schedule.alpha_bar)
