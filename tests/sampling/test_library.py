"""Without drift every state is that of the schedulers of diffusers."""

import functools
import types

import diffusers.schedulers.scheduling_ddim as ddim
import diffusers.schedulers.scheduling_ddpm as ddpm
import diffusers.schedulers.scheduling_dpmsolver_multistep as dpm
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from mmdiffusion_jax import process, sampling
from mmdiffusion_jax.model import Diffusion, ModalityFunctions, ModelFunctions, Prediction
from tests.stepping import StepRunner

# Theirs turns torch tensors into arrays in the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

STEPS, SHAPE = 60, (4, 3)
GRIDS = {
    "every": np.arange(STEPS, 0, -1),
    "even": np.arange(STEPS, 0, -5),
    # Gaps that divide T, as DDIMScheduler.step can take no others.
    "uneven": np.array([60, 48, 38, 32, 27, 15, 12, 10, 9]),
}


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


@functools.cache
def runner_of(stepper, variance="posterior", zeros=False):
    """A denoiser that is none of any data; the head of the other modality must not matter."""
    schedule = process.linear_schedule(STEPS)
    weights = process.modality_weights(schedule, {"other": np.zeros(STEPS + 1)} if zeros else {})
    identity = ModalityFunctions(
        encode=lambda x: x, log_prob=lambda m, x: m[:, 0], expected_encoding=lambda m: m
    )

    def denoise(z_t, t):
        value = jnp.tanh(z_t) + 0.01 * t.astype(z_t.dtype)[:, None]
        return Prediction(value, {"other": 7 + z_t})

    modalities = dict.fromkeys(("x", *weights.transition), identity)
    model = ModelFunctions(denoise, modalities, "x", "z_0", variance)
    forward = process.Process(schedule, weights)
    world = types.SimpleNamespace(
        schedule=schedule, process=forward, diffusion=lambda model: Diffusion(forward, model)
    )
    return StepRunner(world, stepper, model)


def ours(runner, times, start, noises):
    """Every state, and last the estimate of the clean state."""
    states = runner.states(times, jnp.asarray(start), noises)
    return [*states[1:], runner.denoise(times[-1], states[-1]).clean.z_0]


def theirs(scheduler, times, start, noises, monkeypatch, step=None):
    """The same of a scheduler, whose index t − 1 is our t."""
    step = scheduler.step if step is None else step
    state, states = torch.tensor(start), []
    for k, t in enumerate(times):
        noise = torch.tensor(noises[k] if k < len(noises) else np.zeros(SHAPE))
        for module in (ddim, ddpm, dpm):
            monkeypatch.setattr(module, "randn_tensor", lambda *_, noise=noise, **__: noise)
        value = torch.tanh(state) + 0.01 * t
        state = step(value, int(t) - 1, state).prev_sample
        states.append(state.numpy())
    return states


def draws(times):
    rng = np.random.default_rng(0)
    return rng.normal(size=SHAPE), rng.normal(size=(len(times) - 1, *SHAPE))


def scheduler_of(kind, runner, **options):
    """Theirs with our tables, in float64 where it lets them be."""
    schedule = runner.world.schedule
    betas = np.asarray(schedule.beta[1:])
    scheduler = kind(
        num_train_timesteps=STEPS, trained_betas=betas, prediction_type="sample", **options
    )
    scheduler.alphas_cumprod = torch.tensor(np.asarray(schedule.alpha_bar[1:]))
    return scheduler


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("zeros", [False, True], ids=["alone", "weights of zero"])
@pytest.mark.parametrize(
    ("variance", "variance_type"), [("posterior", "fixed_small"), ("upper", "fixed_large")]
)
def test_ancestral(grid, zeros, variance, variance_type, monkeypatch):
    times, runner = GRIDS[grid], runner_of(sampling.Ancestral(), variance, zeros)
    scheduler = scheduler_of(
        ddpm.DDPMScheduler, runner, variance_type=variance_type, clip_sample=False
    )
    scheduler.set_timesteps(timesteps=(times - 1).tolist())
    start, noises = draws(times)
    want = theirs(scheduler, times, start, noises, monkeypatch)
    np.testing.assert_allclose(ours(runner, times, start, noises), want, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim(grid, eta, monkeypatch):
    times, runner = GRIDS[grid], runner_of(sampling.DDIM(eta))
    scheduler = scheduler_of(ddim.DDIMScheduler, runner, clip_sample=False)
    ends = dict(zip(times.tolist(), [*times[1:].tolist(), 0]))

    def step(value, index, state):
        scheduler.num_inference_steps = STEPS // (index + 1 - ends[index + 1])
        return scheduler.step(value, index, state, eta=eta)

    start, noises = draws(times)
    want = theirs(scheduler, times, start, noises, monkeypatch, step)
    np.testing.assert_allclose(ours(runner, times, start, noises), want, rtol=1e-9, atol=1e-9)


class WholeSquare(dpm.DPMSolverMultistepScheduler):
    """Theirs with the half of the square term that it leaves out."""

    def multistep_dpm_solver_third_order_update(self, model_output_list, **options):
        at = self.step_index
        ratio = self.sigmas[[at + 1, at, at - 1, at - 2]]
        to, *before = -torch.log(ratio)
        alpha = self._sigma_to_alpha_sigma_t(ratio[0])[0]
        m0, m1, m2 = model_output_list[::-1]
        first, second = (m0 - m1) / (before[0] - before[1]), (m1 - m2) / (before[1] - before[2])
        h = to - before[0]
        square = (first - second) / (before[0] - before[2])
        half = -alpha * (torch.expm1(-h) + h - h**2 / 2) * square
        return super().multistep_dpm_solver_third_order_update(model_output_list, **options) + half


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize(
    ("stepper", "kind", "options"),
    [
        (sampling.DPMSolverPP(1), dpm.DPMSolverMultistepScheduler, {"solver_order": 1}),
        (sampling.DPMSolverPP(2), dpm.DPMSolverMultistepScheduler, {"solver_order": 2}),
        (sampling.DPMSolverPP(3), WholeSquare, {"solver_order": 3}),
        (
            sampling.DPMSolverPP(sde=True),
            dpm.DPMSolverMultistepScheduler,
            {"solver_order": 2, "algorithm_type": "sde-dpmsolver++"},
        ),
    ],
    ids=["1", "2M", "3M", "2M-SDE"],
)
def test_dpm_solver_pp(grid, stepper, kind, options, monkeypatch):
    times, runner = GRIDS[grid], runner_of(stepper)
    scheduler = scheduler_of(kind, runner, lower_order_final=False, **options)
    scheduler.set_timesteps(timesteps=(times - 1).tolist())
    start, noises = draws(times)
    want = theirs(scheduler, times, start, noises, monkeypatch)
    # They compute in float32: a rounding of 1.2e-7 for each of some ten operations of a step.
    error = 1.2e-7 * 10 * len(times)
    np.testing.assert_allclose(ours(runner, times, start, noises), want, rtol=error, atol=error)


def test_dpm_solver_pp_3m_without_the_missing_half_differs(monkeypatch):
    """So that the equality above is seen to depend on it."""
    times, runner = GRIDS["even"], runner_of(sampling.DPMSolverPP(3))
    scheduler = scheduler_of(
        dpm.DPMSolverMultistepScheduler, runner, solver_order=3, lower_order_final=False
    )
    scheduler.set_timesteps(timesteps=(times - 1).tolist())
    start, noises = draws(times)
    want = theirs(scheduler, times, start, noises, monkeypatch)
    got = ours(runner, times, start, noises)
    np.testing.assert_allclose(got[:2], want[:2], rtol=1e-4)
    assert np.abs(got[-1] - want[-1]).max() > 1e-3
