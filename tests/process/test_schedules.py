"""Schedules, weights and timestep draws against formulas and another library."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from diffusers import DDPMScheduler
from scipy import stats

from mmdiffusion_jax import process


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(process.linear_schedule, "linear"), (process.cosine_schedule, "squaredcos_cap_v2")],
)
def test_equals_another_library(ours, theirs):
    reference = DDPMScheduler(num_train_timesteps=1000, beta_schedule=theirs)
    schedule = ours(1000)
    np.testing.assert_allclose(schedule.beta[1:], reference.betas.numpy(), rtol=2e-5, atol=1e-7)
    np.testing.assert_allclose(
        schedule.alpha_bar[1:], reference.alphas_cumprod.numpy(), rtol=2e-3, atol=1e-7
    )


def test_sigmoid_follows_its_formula():
    s = np.arange(51) / 50
    sigma = stats.logistic.cdf
    curve = (sigma(3) - sigma(-3 + 6 * s)) / (sigma(3) - sigma(-3))
    got = process.sigmoid_schedule(50)
    np.testing.assert_allclose(got.alpha_bar[:-1], curve[:-1], rtol=1e-5)


@pytest.mark.parametrize("build", [process.linear_schedule, process.cosine_schedule])
@pytest.mark.parametrize("num_steps", [1, 2, 10, 1000])
def test_tables_agree(build, num_steps):
    schedule = build(num_steps)
    assert schedule.num_steps == num_steps
    assert float(schedule.retention[0]) == float(schedule.alpha_bar[0]) == 1
    np.testing.assert_allclose(jnp.cumprod(schedule.retention), schedule.alpha_bar, rtol=1e-3)
    assert bool((schedule.alpha_bar[1:] < schedule.alpha_bar[:-1]).all())
    np.testing.assert_allclose(schedule.alpha(3), 4 * schedule.retention)


def test_complement_keeps_its_digits_in_float32():
    schedule = process.linear_schedule(1000)
    assert abs(float(schedule.noise_variance[1]) / 1e-4 - 1) < 1e-6
    assert abs(float(1 - schedule.alpha_bar[1]) / 1e-4 - 1) > 1e-5


@pytest.mark.parametrize("given", ["transition", "marginal"])
@pytest.mark.parametrize("rule", ["constant", "decay", "bump"])
def test_each_weight_gives_the_other(rule, given):
    with jax.enable_x64(True):
        schedule = process.cosine_schedule(20)
        built = process.modality_weights(schedule, {"x": rule}, given)
        other = {"transition": "marginal", "marginal": "transition"}[given]
        back = process.modality_weights(
            schedule, {"x": np.asarray(getattr(built, other)["x"])}, other
        )
        np.testing.assert_allclose(back.transition["x"], built.transition["x"], atol=1e-9)
        np.testing.assert_allclose(back.marginal["x"], built.marginal["x"], atol=1e-9)
        bar = np.asarray(schedule.alpha_bar)
        want = {
            "constant": np.ones(21),
            "decay": np.sqrt(bar),
            "bump": 2 * np.sqrt(bar * (1 - bar)),
        }[rule]
        np.testing.assert_allclose(getattr(built, given)["x"][1:], want[1:], rtol=1e-7)
        assert float(built.transition["x"][0]) == float(built.marginal["x"][0]) == 0


def test_rules_are_marginal_and_values_are_the_transitions_where_nobody_says_it():
    schedule = process.cosine_schedule(1000)
    values = process.Bump()(schedule)
    built = process.modality_weights(
        schedule,
        {"name": "bump", "rule": process.Bump(), "function": lambda _: values, "values": values},
    )
    bar = np.asarray(schedule.alpha_bar, np.float64)
    want = 2 * np.sqrt(bar * np.asarray(schedule.noise_variance, np.float64))
    for name in ("name", "rule", "function"):
        np.testing.assert_allclose(built.marginal[name], want, rtol=1e-6)
        assert 0.999 < float(built.marginal[name].max()) < 1.001
    np.testing.assert_allclose(built.transition["values"], want, rtol=1e-6)
    sums = [0.0]
    for root, w in zip(np.sqrt(np.asarray(schedule.retention, np.float64))[1:], want[1:]):
        sums.append(root * (sums[-1] + w))
    np.testing.assert_allclose(built.marginal["values"], sums, rtol=1e-4)
    assert max(sums) > 300


@pytest.mark.parametrize(
    "use",
    [
        lambda schedule: process.modality_weights(schedule, {"a": "bump"}),
        lambda schedule: process.modality_weights(schedule, {"a": jnp.zeros(5)}),
        process.Decay(),
    ],
)
def test_a_traced_schedule(use):
    with pytest.raises(ValueError, match=r"`schedule`: got traced values.*; close over them"):
        jax.jit(use)(process.cosine_schedule(4))


@pytest.mark.parametrize("name", process.TIMESTEP_DRAWS)
def test_draws_are_uniform(name):
    draw = process.TIMESTEP_DRAWS[name]
    t = jnp.concatenate([draw(jax.random.key(seed), 7, 5) for seed in range(400)])
    counts = np.bincount(t, minlength=6)[1:]
    assert counts.sum() == 2800
    # Within a batch the draws are dependent, which only lowers the statistic.
    assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: process.cosine_schedule(0), "`num_steps`: got 0"),
        (lambda: process.linear_schedule(2.5), "`num_steps`: got 2.5"),
        (lambda: process.schedule_from_betas([]), r"`betas`: got shape \(0,\)"),
        (lambda: process.schedule_from_betas([0.1, 1.0]), "`betas`: got 1.0 at t = 2"),
        (
            lambda: process.schedule_from_betas([0.999] * 20),
            r"`betas`: got values that leave ᾱ_T at 10\^-60, expected ᾱ_T of at least",
        ),
        (lambda: process.cosine_schedule(3).alpha(-1), "`num_modalities`: got -1"),
        (lambda: process.modality_weights(process.cosine_schedule(3), {"a": "bmp"}), "'bump'"),
        (lambda: process.modality_weights(process.cosine_schedule(3), {}, "margin"), "'marginal'"),
        (
            lambda: process.modality_weights(process.cosine_schedule(3), {"a": [0.0, 1.0]}),
            r"weights\['a'\]`: got shape \(2,\), expected shape \(4,\)",
        ),
        (
            lambda: process.modality_weights(process.cosine_schedule(1), {"a": [1.0, 1.0]}),
            "1.0 at t = 0",
        ),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(ValueError, match=words):
        call()
