"""States keep the sampler's dtype, whatever the network computes in and JAX promotes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdiffusion_jax import baselines, process, sampling
from mmdiffusion_jax.model import Diffusion, Prediction
from mmdiffusion_jax.process import Process
from tests import plain_model

SHAPE = (3, 2)
GIVEN = {"joint": (), "conditional": ("y",), "known primary": ("x",)}


@pytest.fixture(autouse=True)
def _no_ranks_promoted():
    with jax.numpy_rank_promotion("raise"):
        yield


def answers_in(dtype):
    """Models whose networks compute in this dtype, whatever the states are in."""

    def denoise(z_t, t):
        z_t = z_t.astype(dtype)
        return Prediction(z_t / 2, {"y": jnp.tanh(z_t)}, variance_mix=jax.nn.sigmoid(z_t))

    def denoise_separately(states, times):
        return Prediction(states["x"].astype(dtype) / 2, {"y": jnp.tanh(states["y"].astype(dtype))})

    return (
        plain_model.shared(denoise, variance="learned"),
        plain_model.separate(denoise_separately),
    )


@pytest.mark.parametrize("x64", [False, True], ids=["", "x64"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("stepper", sampling.SAMPLERS)
def test_every_stepper_keeps_the_dtype(stepper, dtype, x64):
    with jax.enable_x64(x64):
        schedule = process.cosine_schedule(6)
        weights = process.modality_weights(schedule, {"y": "bump"}, given="marginal")
        model, separate = answers_in(dtype)
        want = jnp.zeros(()).dtype
        for names in GIVEN.values():
            given = {name: np.ones(SHAPE, np.float32) for name in names}
            key = jax.random.key(0)
            for samples in (
                jax.eval_shape(
                    lambda given=given, key=key: sampling.sample(
                        key,
                        Diffusion(Process(schedule, weights), model),
                        SHAPE,
                        given,
                        method=sampling.Method(stepper=stepper),
                    )
                ),
                jax.eval_shape(
                    lambda given=given, key=key: baselines.sample_separate(
                        key, schedule, separate, SHAPE, given, sampling.Method(stepper), limit=1.0
                    )
                ),
            ):
                assert {name: x.dtype for name, x in samples.items() if name not in names} == {
                    name: want for name in "xy" if name not in names
                }


OPTIONS = {
    "moments": {"estimate": "moments"},
    "draws": {"estimate": "draw", "read": "draw"},
    "corrections": {"corrections": 2},
    "guidance": {
        "decorators": [
            sampling.classifier_free_guidance("y", 2.0, (0.1, 5.0), rescale=0.5, limit=0.3),
            sampling.decoder_guidance({"y": 1.0}),
            sampling.dynamic_threshold(),
        ]
    },
}


@pytest.mark.parametrize("x64", [False, True], ids=["", "x64"])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_every_option_keeps_the_dtype(options, x64):
    with jax.enable_x64(x64):
        schedule = process.cosine_schedule(6)
        weights = process.modality_weights(schedule, {"y": "bump"}, given="marginal")
        model, _ = answers_in("bfloat16")
        given = {"y": np.ones(SHAPE, np.float32)} if "decorators" in options else {}
        samples = jax.eval_shape(
            lambda: sampling.sample(
                jax.random.key(0),
                Diffusion(Process(schedule, weights), model),
                SHAPE,
                given,
                method=sampling.Method(**options),
            )
        )
        assert samples["x"].dtype == jnp.zeros(()).dtype


def test_a_narrow_network_is_as_good_as_its_rounding():
    """No step is computed in its dtype: only its answers are rounded, to 8 bits."""
    samples = [
        sampling.sample(
            jax.random.key(0), Diffusion(plain_model.PROCESS, answers_in(dtype)[0]), SHAPE,
            method=sampling.Method(stepper="dpm_solver_pp"),
        )["x"]
        for dtype in ("float32", "bfloat16")
    ]  # fmt: skip
    size = float(jnp.abs(samples[0]).max())
    off = float(jnp.abs(samples[0] - samples[1]).max())
    assert 0 < off < 0.05 * size


def test_a_decorator_of_another_dtype():
    def halve(denoiser, query):
        def answer(t, z_t, roles):
            state = denoiser(t, z_t, roles)
            return state.with_z_0(state.clean.z_0.astype(jnp.bfloat16))

        return answer

    with jax.numpy_dtype_promotion("standard"):
        samples = jax.eval_shape(
            lambda: sampling.sample(
                jax.random.key(0), Diffusion(plain_model.PROCESS, plain_model.shared()), SHAPE,
                method=sampling.Method(decorators=[halve], stepper="dpm_solver_pp_3m"),
            )
        )  # fmt: skip
    assert samples["x"].dtype == jnp.float32
