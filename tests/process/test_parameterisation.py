"""The pivot against algebra."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdiffusion_jax import process


@pytest.mark.parametrize("target", process.TARGETS)
def test_pivot_round_trip_and_error_factor(target):
    with jax.enable_x64(True):
        schedule = process.cosine_schedule(30)
        rng = np.random.default_rng(0)
        z_0, noise, wrong = (jnp.asarray(rng.normal(size=(5, 3))) for _ in range(3))
        t = jnp.array([1, 2, 10, 20, 29])
        bar = np.asarray(schedule.alpha_bar)[np.asarray(t)][:, None]
        y = np.sqrt(bar) * z_0 + np.sqrt(1 - bar) * noise
        pair = process.Pivot(z_0, noise)
        truth = process.from_pivot(schedule, t, pair, target)
        back = process.to_pivot(schedule, t, y, truth, target)
        np.testing.assert_allclose(back.z_0, z_0, atol=1e-7)
        np.testing.assert_allclose(back.noise, noise, atol=1e-7)
        off = process.to_pivot(schedule, t, y, truth + wrong, target)
        factor = process.noise_error_factor(schedule, t, target)
        np.testing.assert_allclose(
            ((off.noise - noise) ** 2).sum(1), factor * (wrong**2).sum(1), rtol=1e-6
        )


@pytest.mark.parametrize(
    ("prediction", "target", "words"),
    [
        (jnp.ones((1, 2)), "x", "`target`: got 'x', expected one of 'noise', 'v', 'z_0'"),
        (jnp.ones((1, 3)), "v", r"`prediction`: got shape \(1, 3\)"),
    ],
)
def test_bad_input(prediction, target, words):
    schedule, t, y_t = process.cosine_schedule(3), jnp.ones(1, int), jnp.ones((1, 2))
    with pytest.raises(ValueError, match=words):
        process.to_pivot(schedule, t, y_t, prediction, target)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
@pytest.mark.parametrize("target", process.TARGETS)
def test_few_bits_at_the_end_of_a_long_schedule(target, dtype):
    """There ᾱ_T is less than float16 can hold, though its root is not."""
    schedule, t = process.cosine_schedule(1000), jnp.array([1000])
    y, value = jnp.array([[1.5]], dtype), jnp.array([[0.5]], dtype)
    bar = float(schedule.alpha_bar[1000])
    assert float(jnp.asarray(bar, jnp.float16)) == 0
    signal, noise = np.sqrt(bar), np.sqrt(1 - bar)
    want = {
        "noise": ((1.5 - noise * 0.5) / signal, 0.5),
        "z_0": (0.5, (1.5 - signal * 0.5) / noise),
        "v": (signal * 1.5 - noise * 0.5, noise * 1.5 + signal * 0.5),
    }[target]
    got = process.to_pivot(schedule, t, y, value, target)
    assert got.z_0.dtype == dtype
    for ours, exact in zip(got, want, strict=True):
        np.testing.assert_allclose(float(ours[0, 0]), exact, rtol=0.01)
    state = process.marginal(process.Process(schedule), t, y, {})
    np.testing.assert_allclose(float(state.mean[0, 0]), signal * 1.5, rtol=0.01)
