"""Transition, marginal and posterior against iteration, Bayes and simulation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdiffusion_jax import process

NAMES = ("a", "b", "c", "d")
LATENTS = [(), (3,), (2, 3, 2)]


def world(count, seed, latent=(3,), num_steps=6, batch=4):
    rng = np.random.default_rng(seed)
    schedule = process.schedule_from_betas(rng.uniform(0.05, 0.6, num_steps))
    tables = {name: np.concatenate([[0.0], rng.normal(size=num_steps)]) for name in NAMES[:count]}
    weights = process.modality_weights(schedule, tables)
    z_0 = rng.normal(size=(batch, *latent))
    encodings = {name: rng.normal(size=(batch, *latent)) for name in tables}
    return process.Process(schedule, weights), z_0, encodings


@pytest.mark.parametrize("latent", LATENTS)
@pytest.mark.parametrize("count", range(5))
@pytest.mark.parametrize("x64", [True, False])
def test_iterated_transitions_are_the_marginal(count, latent, x64):
    with jax.enable_x64(x64):
        forward, z_0, encodings = world(count, seed=count, latent=latent)
        mean, variance = jnp.asarray(z_0), 0.0
        for step in range(1, forward.num_steps + 1):
            t = jnp.full((len(z_0),), step)
            one = process.transition(forward, t, mean, encodings)
            # A Gaussian through the affine step: the mean maps, the variance scales by r and grows.
            retention = float(forward.schedule.retention[step])
            mean, variance = one.mean, retention * variance + float(one.variance.ravel()[0])
            closed = process.marginal(forward, t, jnp.asarray(z_0), encodings)
            tolerance = 1e-12 if x64 else 1e-5
            np.testing.assert_allclose(closed.mean, mean, rtol=tolerance, atol=tolerance)
            np.testing.assert_allclose(closed.variance, variance, rtol=max(tolerance, 1e-12))
            assert closed.mean.dtype == (jnp.float64 if x64 else jnp.float32)


@pytest.mark.parametrize("count", range(5))
def test_posterior_is_bayes(count):
    with jax.enable_x64(True):
        forward, z_0, encodings = world(count, seed=10 + count)
        rng = np.random.default_rng(0)
        z_t = rng.normal(size=z_0.shape)
        for step in range(2, forward.num_steps + 1):
            t = jnp.full((len(z_0),), step)
            got = process.posterior(forward, t, z_t, z_0, encodings)
            prior = process.marginal(forward, t - 1, z_0, encodings)
            # The likelihood of z_{t-1}: a probe of the transition at two points gives its line.
            at_zero = process.transition(forward, t, jnp.zeros_like(z_0), encodings)
            at_one = process.transition(forward, t, jnp.ones_like(z_0), encodings)
            slope, noise = at_one.mean - at_zero.mean, at_zero.variance
            precision = 1 / prior.variance + slope**2 / noise
            mean = (prior.mean / prior.variance + slope * (z_t - at_zero.mean) / noise) / precision
            np.testing.assert_allclose(got.mean, mean, rtol=1e-10, atol=1e-12)
            np.testing.assert_allclose(
                np.broadcast_to(got.variance, mean.shape), 1 / precision, rtol=1e-10
            )


@pytest.mark.parametrize("count", [0, 2])
def test_posterior_equals_its_noise_form(count):
    with jax.enable_x64(True):
        forward, z_0, encodings = world(count, seed=20)
        noise = np.random.default_rng(1).normal(size=z_0.shape)
        r, bar = np.asarray(forward.schedule.retention), np.asarray(forward.schedule.alpha_bar)
        for step in range(2, forward.num_steps + 1):
            t = jnp.full((len(z_0),), step)
            state = process.marginal(forward, t, z_0, encodings)
            z_t = state.mean + jnp.sqrt(state.variance) * noise
            drift = sum(
                np.asarray(forward.weights.transition[name])[step] * encodings[name]
                for name in encodings
            )
            mean = (z_t - (1 - r[step]) / np.sqrt(1 - bar[step]) * noise) / np.sqrt(r[step]) - drift
            got = process.posterior(forward, t, z_t, z_0, encodings)
            np.testing.assert_allclose(got.mean, mean, rtol=1e-9, atol=1e-10)


def test_posterior_at_the_first_step_is_the_clean_state():
    forward, z_0, encodings = world(2, seed=3)
    z_0 = z_0.astype(np.float32)
    encodings = {name: x.astype(np.float32) for name, x in encodings.items()}
    got = process.posterior(forward, jnp.ones(4, int), 0 * z_0, z_0, encodings)
    np.testing.assert_allclose(got.mean, z_0, atol=1e-6)
    assert float(got.variance.max()) == 0


def test_simulated_trajectories_have_the_marginals_moments():
    forward, z_0, encodings = world(3, seed=5, batch=1)
    count = 200_000
    state = jnp.broadcast_to(jnp.asarray(z_0, jnp.float32), (count, 3))
    wide = {
        name: jnp.broadcast_to(jnp.asarray(x, jnp.float32), (count, 3))
        for name, x in encodings.items()
    }
    for step in range(1, forward.num_steps + 1):
        t = jnp.full((count,), step)
        one = process.transition(forward, t, state, wide)
        state = one.sample(jax.random.key(step))
    end = process.marginal(
        forward, jnp.array([forward.num_steps]), jnp.asarray(z_0, jnp.float32),
        {name: x[:1] for name, x in wide.items()},
    )  # fmt: skip
    error = np.sqrt(float(end.variance[0, 0]) / count)
    np.testing.assert_allclose(state.mean(0), end.mean[0], atol=5 * error)
    np.testing.assert_allclose(state.var(0), float(end.variance[0, 0]), rtol=0.02)


def test_shifted_state_is_a_plain_diffusion():
    forward, z_0, encodings = world(2, seed=7)
    z_0 = z_0.astype(np.float32)
    t = jnp.array([1, 2, 5, 6])
    state = process.marginal(forward, t, z_0, encodings)
    plain = process.marginal(process.Process(forward.schedule), t, z_0, {})
    shifted = process.shift(forward, t, state.mean, encodings)
    np.testing.assert_allclose(shifted, plain.mean, atol=1e-6)
    np.testing.assert_allclose(state.variance, plain.variance)


@pytest.mark.parametrize("function", ["transition", "marginal"])
def test_transforms(function):
    forward, z_0, encodings = world(2, seed=8)
    z_0 = jnp.asarray(z_0, jnp.float32)
    encodings = {name: jnp.asarray(x, jnp.float32) for name, x in encodings.items()}
    t = jnp.array([1, 3, 5, 6])
    plain = getattr(process, function)
    want = plain(forward, t, z_0, encodings)
    jitted = jax.jit(plain)(forward, t, z_0, encodings)
    mapped = jax.vmap(plain, in_axes=(None, 0, 0, 0))(forward, t, z_0, encodings)
    np.testing.assert_allclose(jitted.mean, want.mean, atol=1e-6)
    np.testing.assert_allclose(mapped.mean, want.mean, atol=1e-6)
    gradient = jax.grad(lambda z: plain(forward, t, z, encodings).mean.sum())(z_0)
    ones = jnp.ones_like(z_0)
    slope = plain(forward, t, ones, encodings).mean
    slope = slope - plain(forward, t, 0 * ones, encodings).mean
    np.testing.assert_allclose(gradient, slope, atol=1e-5)


def test_half_precision_stays_half():
    forward, z_0, encodings = world(1, seed=9)
    half = jnp.asarray(z_0, jnp.bfloat16)
    assert process.marginal(forward, jnp.ones(4, int), half, encodings).mean.dtype == (jnp.bfloat16)


def test_a_step_back_in_half_precision_is_rounded_once():
    """A step contracts by less than half precision resolves, so its factors must not be rounded."""
    schedule = process.cosine_schedule(1000)
    forward = process.Process(schedule)
    z_t, z_0 = jax.random.normal(jax.random.key(0), (2, 999, 8), jnp.bfloat16)
    t = jnp.arange(2, 1001)
    half = process.posterior(forward, t, z_t, z_0, {})
    wide = process.posterior(forward, t, *(z.astype(jnp.float32) for z in (z_t, z_0)), {})
    for part in ("mean", "variance"):
        assert getattr(half, part).dtype == jnp.bfloat16
        np.testing.assert_array_equal(getattr(half, part), getattr(wide, part).astype(jnp.bfloat16))
    variance = process.reverse_variance(schedule, t, z_t)
    np.testing.assert_array_equal(variance, wide.variance.astype(jnp.bfloat16))


def test_variances():
    schedule = process.cosine_schedule(8)
    like = jnp.zeros((7, 2))
    t = jnp.arange(2, 9)
    lower = process.reverse_variance(schedule, t, like)
    upper = process.reverse_variance(schedule, t, like, "upper")
    truth = process.posterior(process.Process(schedule), t, like, like, {})
    np.testing.assert_allclose(lower, truth.variance)
    np.testing.assert_allclose(upper.ravel(), schedule.beta[2:])
    for mix, want in ((0.0, lower), (1.0, upper), (0.5, jnp.sqrt(lower * upper))):
        learned = process.reverse_variance(schedule, t, like, "learned", jnp.full_like(like, mix))
        np.testing.assert_allclose(learned, jnp.broadcast_to(want, like.shape), rtol=1e-5)
    first = process.reverse_variance(
        schedule, jnp.ones(7, int), like, "learned", jnp.zeros_like(like)
    )
    np.testing.assert_allclose(first, jnp.broadcast_to(lower[0], like.shape), rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"t": jnp.array([0, 1])}, r"`t`: got 0, expected values in 1 … 6"),
        ({"t": jnp.array([1, 7])}, r"`t`: got 7"),
        ({"t": jnp.array([1.0, 2.0])}, "`t`: got dtype float32, expected integers"),
        ({"t": jnp.array([1, 2, 3])}, r"`t`: got shape \(3,\)"),
        ({"z_0": jnp.zeros((2, 3), int)}, "`z_0`: got dtype int32"),
        ({"encodings": {}}, "nothing for 'a'.*pass zeros"),
        ({"encodings": {"aa": jnp.zeros((2, 3))}}, "got 'aa'.*did you mean 'a'"),
        ({"encodings": {"a": jnp.zeros((2, 4))}}, r"encodings\['a'\]`: got shape \(2, 4\)"),
    ],
)
def test_bad_input(change, words):
    forward, _, _ = world(1, seed=1)
    arguments = {"t": jnp.array([1, 2]), "z_0": jnp.zeros((2, 3))}
    arguments["encodings"] = {"a": jnp.zeros((2, 3))}
    with pytest.raises(ValueError, match=words):
        process.marginal(forward, **{**arguments, **change})


def test_a_learned_variance_needs_a_mix():
    with pytest.raises(ValueError, match="`mix`: got None"):
        process.reverse_variance(
            process.cosine_schedule(3), jnp.ones(1, int), jnp.ones((1, 2)), "learned"
        )
