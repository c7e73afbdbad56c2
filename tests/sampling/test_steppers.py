"""The order that a stepper declares is the order that is measured, on worlds known exactly."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdiffusion_jax import sampling
from tests.linear_world import LinearWorld
from tests.mixture_world import MixtureWorld
from tests.stepping import StepRunner

# Steps of equal log-SNR, so many that every grid below lies on them exactly. At the noisy end ẑ_0
# hardly moves (its slope in λ is near e^λ = 0.02), so that the first steps of a multistep rule,
# taken at a lower order for want of estimates, cost less than all the others together.
STEPS, LOG_SNR = 2049, (2.0, -8.0)
COUNTS = (64, 128, 256)
FINEST = 1024
WORLDS = {
    "gaussian": lambda: LinearWorld(0, STEPS, log_snr=LOG_SNR),
    "gaussian with drift": lambda: LinearWorld(1, STEPS, log_snr=LOG_SNR),
    "mixture": lambda: MixtureWorld(STEPS, LOG_SNR, 0.0, (0.5, 0.3, 0.2)),
    "mixture with drift": lambda: MixtureWorld(STEPS, LOG_SNR, 0.7, (0.5, 0.3, 0.2)),
}
START = np.array([[1.0, 0.5], [-0.7, 1.2], [0.3, -1.5]])


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


@functools.cache
def world_of(name):
    return WORLDS[name]()


@functools.cache
def runner_of(name, stepper, variance="posterior"):
    return StepRunner(world_of(name), stepper, world_of(name).model(variance=variance))


@functools.cache
def finest(name):
    """The solution of the probability flow, nearly."""
    return end_of(runner_of(name, sampling.DPMSolverPP(3)), FINEST)


def grid(count, uneven=False):
    """Equal gaps, or gaps that take turns at 3 : 5."""
    gaps = np.full(count, (STEPS - 1) // count)
    if uneven:
        gaps[::2] = gaps[::2] * 3 // 4
        gaps[1::2] = gaps[1::2] * 5 // 4
    return STEPS - np.concatenate([[0], np.cumsum(gaps)])


def end_of(runner, count, uneven=False):
    noises = np.zeros((count, *START.shape))
    return runner.states(grid(count, uneven), jnp.asarray(START), noises)[-1]


def slope(errors):
    return -np.polyfit(np.log(COUNTS), np.log(errors), 1)[0]


def trajectory_order(name, stepper, uneven=False):
    runner = runner_of(name, stepper)
    errors = [np.abs(end_of(runner, n, uneven) - finest(name)).max() for n in COUNTS]
    return slope(errors)


def test_the_finest_solution_is_the_flow_of_a_gaussian():
    """Σ^{-1/2} (z − mean) stays what it is along the flow; Σ is diagonal in this world."""
    world = world_of("gaussian")
    scaled = []
    for t, z in ((STEPS, START), (1, finest("gaussian"))):
        bar, noise = (
            float(x[t]) for x in (world.schedule.alpha_bar, world.schedule.noise_variance)
        )
        spread = np.sqrt(bar * np.diag(world.covariance) + noise)
        scaled.append((z - bar**0.5 * world.mean) / spread)
    np.testing.assert_allclose(*scaled, atol=1e-7)  # a tenth of the least error measured below


@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize(
    "stepper",
    [
        sampling.DDIM(),
        sampling.DPMSolverPP(1),
        sampling.DPMSolverPP(2),
        sampling.DPMSolverPP(3),
        sampling.Heun(),
    ],
    ids=str,
)
def test_order_of_the_trajectory(name, stepper):
    assert not stepper.stochastic
    for uneven in (False, True):
        assert abs(trajectory_order(name, stepper, uneven) - stepper.order) < 0.3


@pytest.mark.parametrize("name", ["gaussian", "mixture with drift"])
def test_the_usual_third_order_code_is_of_second_order(name, monkeypatch):
    """It takes half of the square term."""
    moments = sampling.Plan.moments
    monkeypatch.setattr(
        sampling.Plan,
        "moments",
        lambda self, power: jax.tree.map(lambda m: m / power, moments(self, power)),
    )
    runner = StepRunner(world_of(name), sampling.DPMSolverPP(3))
    errors = [np.abs(end_of(runner, n) - finest(name)).max() for n in COUNTS]
    assert abs(slope(errors) - 2) < 0.3


def law_at(world, t):
    """The exact mean and covariance of z_t."""
    observe, noise = world.observe[t], float(world.schedule.noise_variance[t])
    return observe @ world.mean, observe @ world.covariance @ observe.T + noise * np.eye(2)


def law_at_the_end(runner, count):
    """Mean and covariance of the last state, exactly: it is affine in the start and the noises.

    One example for the mean, and one for each direction of the start and of every step's noise.
    """
    mean, covariance = law_at(runner.world, STEPS)
    start = np.tile(mean, (3 + 2 * COUNTS[-1], 1))
    start[1:3] += np.linalg.cholesky(covariance).T
    noises = np.zeros((count, *start.shape))
    for k in range(count):
        noises[k, 3 + 2 * k : 5 + 2 * k] = np.eye(2)
    end = runner.states(grid(count), jnp.asarray(start), noises)[-1]
    return end[0], (end[1:] - end[0]).T @ (end[1:] - end[0])


@pytest.mark.parametrize("name", ["gaussian", "gaussian with drift"])
@pytest.mark.parametrize(
    ("stepper", "variance"),
    [
        (sampling.Ancestral(), "posterior"),
        (sampling.Ancestral(), "upper"),
        (sampling.DDIM(eta=1.0), "posterior"),
        (sampling.DDIM(eta=0.5), "posterior"),
        (sampling.DPMSolverPP(sde=True), "posterior"),
    ],
    ids=str,
)
def test_order_of_the_moments(name, stepper, variance):
    assert stepper.stochastic
    runner = runner_of(name, stepper, variance)
    exact_mean, exact = law_at(runner.world, 1)
    errors = []
    for count in COUNTS:
        mean, covariance = law_at_the_end(runner, count)
        np.testing.assert_allclose(mean, exact_mean, atol=1e-12)
        errors.append(np.abs(covariance - exact).max())
    assert abs(slope(errors) - stepper.order) < 0.3


def test_calls_are_what_a_step_costs():
    for build in sampling.SAMPLERS.values():
        stepper, count = build(), []
        runner = StepRunner(world_of("gaussian"), stepper)
        denoise = runner.denoise
        runner.denoise = lambda t, z, f=denoise, count=count: count.append(1) or f(t, z)
        runner.states(grid(64)[:2], jnp.asarray(START), np.zeros((1, *START.shape)))
        assert len(count) == stepper.calls


def test_moments_bring_ancestral_steps_nearer_the_truth():
    """The variance of the encoding, left out by "mean", goes into the noise of each step."""
    name = "gaussian with drift"
    moments = StepRunner(world_of(name), sampling.Ancestral(), moments=True)
    for count in (4, 16, 64):
        errors = [
            np.abs(law_at_the_end(runner, count)[1] - law_at(runner.world, 1)[1]).max()
            for runner in (moments, runner_of(name, sampling.Ancestral()))
        ]
        assert errors[0] < 0.95 * errors[1]
