"""The samples of every stepper follow the exact law, joint ones with their drift as well."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from mmdiffusion_jax import sampling
from mmdiffusion_jax.model import all_carried
from tests.linear_world import LinearWorld
from tests.mixture_world import CENTRES, SPREAD, MixtureWorld
from tests.stepping import StepRunner

STEPS, LOG_SNR, COUNT = 400, (9.0, -9.0), 3000
WORLDS = {
    "gaussian": lambda: LinearWorld(0, STEPS, log_snr=LOG_SNR),
    "gaussian with drift": lambda: LinearWorld(1, STEPS, log_snr=LOG_SNR),
    "mixture": lambda: MixtureWorld(STEPS, LOG_SNR, 0.0, (0.5, 0.3, 0.2)),
    "mixture with drift": lambda: MixtureWorld(STEPS, LOG_SNR, 0.7, (0.5, 0.3, 0.2)),
}
# First-order steppers visit every t; for the others this many steps are enough.
FEW = 50
STEPPERS = {
    "ancestral": (sampling.Ancestral(), STEPS),
    "ddim": (sampling.DDIM(), STEPS),
    "ddim, half the noise": (sampling.DDIM(eta=0.5), STEPS),
    "2M": (sampling.DPMSolverPP(2), FEW),
    "3M": (sampling.DPMSolverPP(3), FEW),
    "2M-SDE": (sampling.DPMSolverPP(sde=True), FEW),
    "heun": (sampling.Heun(), FEW),
}


@functools.cache
def world_of(name):
    return WORLDS[name]()


@functools.cache
def runner_of(name, stepper):
    return StepRunner(world_of(name), stepper)


@functools.cache
def drawer_of(name):
    """Values of all modalities from a state."""
    model = world_of(name).model()

    def draw(key, state):
        heads = dict(state.prediction.heads)
        primary = model.modalities[model.primary]
        heads[model.primary] = primary.reconstruct(state.clean.z_0, heads[model.primary])
        keys = jax.random.split(key, len(heads))
        return {
            each: model.modalities[each].draw(key, heads[each]) for each, key in zip(heads, keys)
        }

    return jax.jit(draw)


def samples_by_hand(name, stepper, num_steps):
    """Samples by hand: steps are compiled much faster without their random numbers."""
    runner, rng = runner_of(name, stepper), np.random.default_rng(0)
    times = sampling.log_snr_grid(runner.world.schedule, num_steps)
    start, *noises = rng.normal(size=(num_steps, COUNT, 2)).astype(np.float32)
    last = runner.states(times, jnp.asarray(start), noises)[-1]
    samples = drawer_of(name)(jax.random.key(0), runner.denoise(times[-1], last))
    return {each: np.asarray(x, np.float64) for each, x in samples.items()}


def directions(dims):
    drawn = np.random.default_rng(0).normal(size=(6, dims))
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def least_p_value(world, samples):
    """Of Kolmogorov–Smirnov tests of projections (and of label counts), times their number."""
    if isinstance(world, LinearWorld):
        u = np.concatenate([samples[name] for name in ("p", *world.names)], axis=1)
        white = np.linalg.solve(np.linalg.cholesky(world.covariance), (u - world.mean).T)
        p_values = [stats.kstest(d @ white, "norm").pvalue for d in directions(len(white))]
    else:
        labels = samples["label"]
        counts = [(labels == k).sum() for k in range(3)]
        p_values = [stats.chisquare(counts, world.probabilities * len(labels)).pvalue]
        for d in directions(2):
            p_values.append(stats.kstest(samples["x"] @ d, world.cdf, args=(d,)).pvalue)
            for k in range(3):
                law = stats.norm(CENTRES[k] @ d, SPREAD)
                p_values.append(stats.kstest(samples["x"][labels == k] @ d, law.cdf).pvalue)
    return len(p_values) * min(p_values)


def check(world, samples):
    assert least_p_value(world, samples) > 1e-3
    names = ["x"] if isinstance(world, MixtureWorld) else ["p", *world.names]
    drawn = np.concatenate([samples[each] for each in names], axis=1)
    sd = np.sqrt(np.diag(world.covariance))
    # Five standard errors of COUNT samples; for the covariance of two entries at most sqrt(2 / n).
    np.testing.assert_allclose((drawn.mean(0) - world.mean) / sd, 0, atol=5 / COUNT**0.5)
    off = (np.cov(drawn.T) - world.covariance) / np.outer(sd, sd)
    np.testing.assert_allclose(off, 0, atol=5 * (2 / COUNT) ** 0.5)


@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("stepper", STEPPERS)
def test_every_stepper_leads_to_the_exact_law(stepper, name):
    check(world_of(name), samples_by_hand(name, *STEPPERS[stepper]))


@pytest.mark.parametrize(
    "name", [pytest.param("gaussian with drift", marks=pytest.mark.long), "mixture with drift"]
)
def test_ancestral_samples_with_drawn_encodings_follow_the_exact_law(name):
    world = world_of(name)
    samples = jax.jit(
        lambda key: sampling.sample(
            key, world.diffusion(), (COUNT, 2),
            method=sampling.Method(estimate="draw", read="draw"),
        )
    )(jax.random.key(0))  # fmt: skip
    check(world, {each: np.asarray(x, np.float64) for each, x in samples.items()})


@pytest.mark.parametrize("name", WORLDS)
def test_samples_of_three_steps_are_told_apart(name):
    assert least_p_value(world_of(name), samples_by_hand(name, sampling.Ancestral(), 3)) < 1e-6


@pytest.mark.parametrize("stepper", [sampling.DPMSolverPP(3), sampling.Heun()], ids=str)
def test_the_scan_takes_the_steps_that_are_taken_by_hand(stepper):
    world = world_of("gaussian with drift")
    runner = runner_of("gaussian with drift", stepper)
    start = jnp.asarray([[1.0, 0.5], [-0.7, 1.2]])
    times = sampling.log_snr_grid(world.schedule, 20)
    route = sampling.plan(world.process, times)
    keys = jax.random.split(jax.random.key(0), 2)
    roles = all_carried(runner.model.modalities, 2)
    method = sampling.Method(stepper)
    last = sampling.run_stepper(runner.denoiser, method, route, start, keys, roles)
    by_hand = runner.states(times, start, np.zeros((19, 2, 2), np.float32))[-1]
    np.testing.assert_allclose(last, by_hand, rtol=1e-5)
