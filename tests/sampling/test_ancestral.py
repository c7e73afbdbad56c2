"""Ancestral sampling against another library step by step, and against an exact world."""

import dataclasses

import diffusers.schedulers.scheduling_ddpm as reference
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from mmdiffusion_jax import process, sampling
from tests.linear_world import LinearWorld


@pytest.mark.parametrize(
    ("variance", "theirs"), [("posterior", "fixed_small"), ("upper", "fixed_large")]
)
@pytest.mark.parametrize("zero_weights", [False, True])
def test_trajectory_equals_another_library(variance, theirs, zero_weights, monkeypatch):
    """With no modalities, or with weights of zero, the whole trajectory is DDPM's."""
    steps, shape = 30, (4, 3)
    schedule = process.linear_schedule(steps)
    scheduler = reference.DDPMScheduler(
        num_train_timesteps=steps,
        trained_betas=np.asarray(schedule.beta[1:], np.float64),
        variance_type=theirs,
        clip_sample=False,
    )
    zeros = {"other": np.zeros(steps + 1)} if zero_weights else {}
    weights = process.modality_weights(schedule, zeros)
    identity = process.ModalityFunctions(
        encode=lambda x: x, log_prob=lambda m, x: m[:, 0], most_likely=lambda m: m,
        expected_encoding=lambda m: m,
    )  # fmt: skip

    def denoise(z_t, t):
        value = 0.5 * jnp.tanh(z_t) + 0.01 * t.astype(z_t.dtype)[:, None]
        return process.Prediction(value, {"other": 7 + z_t})

    modalities = dict.fromkeys(("x", *zeros), identity)
    model = process.ModelFunctions(denoise, modalities, "x", variance=variance)
    key = jax.random.key(5)
    ours = sampling.sample(key, schedule, weights, model, shape)["x"]

    start_key, steps_key = jax.random.split(key)
    state = torch.tensor(np.asarray(jax.random.normal(start_key, shape)))
    for t in range(steps, 0, -1):
        noise_key = jax.random.split(jax.random.fold_in(steps_key, t))[1]
        noise = torch.tensor(np.asarray(jax.random.normal(noise_key, shape)))
        monkeypatch.setattr(reference, "randn_tensor", lambda *_, noise=noise, **__: noise)
        value = 0.5 * torch.tanh(state) + 0.01 * t
        state = scheduler.step(value, t - 1, state).prev_sample
    np.testing.assert_allclose(ours, state.numpy(), rtol=2e-4, atol=2e-5)


def test_joint_samples_of_an_exact_model_have_the_exact_moments():
    world = LinearWorld(1, 100)
    count = 20_000
    samples = jax.jit(
        lambda key: sampling.sample(
            key, world.schedule, world.weights, world.model(), (count, 2), estimate="draw"
        )
    )(jax.random.key(0))["p"]
    np.testing.assert_allclose(samples.mean(0), world.mean[:2], atol=0.06)
    np.testing.assert_allclose(np.cov(samples.T), world.covariance[:2, :2], atol=0.12)


def test_known_values_enter_after_the_models_own_belief():
    """The trap: a known encoding in place of the model's estimate must not leak into ẑ_0."""
    schedule = process.cosine_schedule(40)
    weights = process.modality_weights(schedule, {"side": process.Bump(2.0)}, given="marginal")
    table = jnp.array([[1.0, -1.0], [-1.0, 1.0]])

    def denoise(z_t, t):
        # The exact posterior of a world with two points x = ±1 in the first place, side = sign.
        bar, noise = schedule.alpha_bar[t][:, None], schedule.noise_variance[t][:, None]
        drift = weights.marginal["side"][t][:, None]
        points = jnp.array([[-1.0, 0.0], [1.0, 0.0]])
        centres = jnp.sqrt(bar)[:, None] * points + drift[:, None] * table
        logits = -0.5 * ((z_t[:, None] - centres) ** 2).sum(-1) / noise
        p = jax.nn.softmax(logits)
        residual = z_t - jnp.einsum("bk,bkd->bd", p, centres)
        return process.Prediction(residual / jnp.sqrt(noise), {"side": logits})

    model = process.ModelFunctions(
        denoise,
        {
            "x": process.ModalityFunctions(
                encode=lambda x: x, log_prob=lambda m, x: m[:, 0], most_likely=lambda m: m
            ),
            "side": process.ModalityFunctions(
                encode=lambda k: table[k],
                log_prob=process.categorical_log_prob,
                expected_encoding=lambda logits: jax.nn.softmax(logits) @ table,
                most_likely=lambda logits: jnp.argmax(logits, -1),
                pool=lambda logits: jax.nn.log_softmax(logits).mean(0),
            ),
        },
        "x",
    )
    asked = jnp.arange(400) % 2
    key = jax.random.key(0)
    given = {"side": asked}
    made = sampling.sample(key, schedule, weights, model, (400, 2), given)
    np.testing.assert_array_equal(made["side"], asked)
    right = (made["x"][:, 0] > 0) == (asked == 1)
    assert float(right.mean()) > 0.97
    joint = sampling.sample(key, schedule, weights, model, (400, 2))
    agree = (joint["x"][:, 0] > 0) == (joint["side"] == 1)
    assert float(agree.mean()) > 0.97
    assert 0.4 < float(joint["side"].mean()) < 0.6
    points = jnp.stack([2.0 * asked.astype(jnp.float32) - 1, jnp.zeros(400)], axis=1)
    read = sampling.sample(key, schedule, weights, model, (400, 2), {"x": points})
    assert float((read["side"] == asked).mean()) > 0.95


def test_shares_of_several_encodings_in_the_clean_state():
    """z_0 as a weighted mean: the primary is read back by solving it for its encoding."""
    world = LinearWorld(1, 50)
    model = dataclasses.replace(world.model(), shares={"p": 3.0, "x0": 1.0})
    encodings = {"p": jnp.ones((2, 2)), "x0": jnp.full((2, 2), 5.0)}
    z_0 = model.clean_state(encodings)
    np.testing.assert_allclose(z_0, 2.0)
    np.testing.assert_allclose(model.primary_encoding(z_0, encodings), 1.0)
    samples = sampling.sample(jax.random.key(0), world.schedule, world.weights, model, (3, 2))
    assert np.isfinite(np.asarray(samples["p"])).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"given": {"y": jnp.ones((3, 2))}}, "`given`: got 'y'"),
        ({"given": {"x0": jnp.ones((2, 2))}}, r"given\['x0'\]`: got shape \(2, 2\)"),
        ({"given": {"x0": jnp.ones((3, 2)), "p": jnp.ones((3, 2))}}, "at least one modality left"),
        ({"estimate": "men"}, "did you mean 'mean'"),
        ({"unknown": "abset"}, "did you mean 'absent'"),
    ],
)
def test_bad_input(options, words):
    world = LinearWorld(1, 5)
    with pytest.raises(ValueError, match=words):
        sampling.sample(
            jax.random.key(0), world.schedule, world.weights, world.model(), (3, 2), **options
        )
