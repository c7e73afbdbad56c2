"""What is certain of the primary stays in every sample, bit for bit."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from scipy import stats

from configs import smoke
from mmdiffusion_jax import experiment, process, sampling
from mmdiffusion_jax.sampling.plan import plan
from tests.linear_world import LinearWorld
from tests.shown_world import DIMS, ShownWorld

NUM = 2000


def test_a_fixed_part_stays_and_the_rest_is_drawn_beside_it():
    """One coordinate is given, and the other has its own law."""
    world = ShownWorld(1, 64, log_snr=(7.0, -8.0))
    values = jnp.full((NUM, DIMS), 1.7)
    fixed = sampling.Fixed(values, jnp.array([True, False]))
    method = sampling.Method("ancestral", order=("p",))
    samples = jax.jit(
        lambda key: sampling.sample(
            key, world.diffusion(), (NUM, DIMS), method=method, fixed={"p": fixed}
        )
    )(jax.random.key(0))["p"]
    np.testing.assert_array_equal(samples[:, 0], values[:, 0])
    # The coordinates of p are independent in this world.
    law = stats.norm(world.mean[1], world.covariance[1, 1] ** 0.5)
    assert stats.kstest(np.asarray(samples)[:, 1], law.cdf).pvalue > 0.001


def test_a_mask_of_another_shape():
    world = ShownWorld(1, 4)
    fixed = sampling.Fixed(jnp.zeros((3, DIMS)), jnp.zeros((3, 5), bool))
    with pytest.raises(ValueError, match=r"`fixed.mask`: got shape \(3, 5\)"):
        sampling.sample(jax.random.key(0), world.diffusion(), (3, DIMS), fixed={"p": fixed})


@pytest.mark.parametrize(
    ("tasks", "read"),
    [
        ({}, "most_likely"),
        ({"image, label, masked": 1.0}, "draw"),
        pytest.param({}, "draw", marks=pytest.mark.long),
        pytest.param({"image, label, masked": 1.0}, "most_likely", marks=pytest.mark.long),
    ],
)
def test_visible_pixels_stay(tasks, read):
    """Of a network that is shown the masked image, and of the drift alone."""
    config = smoke.get_config()
    config.process.num_steps = 8
    config.backbone.width, config.backbone.depth = 16, 1
    config.modalities.masked = ConfigDict(
        {"kind": "masked_image", "num_levels": 17, "num_squares": 1, "square_size": 4}
    )
    config.process.weights.masked = ConfigDict({"rule": "bump", "scale": 0.1})
    config.loss.tasks = ConfigDict(tasks)
    config.sampling.read = read
    built = experiment.build(config)
    params = jax.jit(built.init)(jax.random.key(0))
    rng = np.random.default_rng(0)
    pixels = np.round(rng.integers(0, 17, (6, 8, 8, 1)) * (255 / 16)).astype(np.uint8)
    x = built.model.modalities["masked"].derive(rng, pixels)
    samples = built.generate(jax.random.key(1), params, 6, {"masked": x})
    visible = x[..., -1:] == 255
    np.testing.assert_array_equal(samples["image"][visible], pixels[visible])
    assert (samples["image"][~visible] != pixels[~visible]).mean() > 0.3
    joint = built.generate(jax.random.key(1), params, 6)
    assert ("masked" in joint) == bool(tasks)


def begun(level, num_steps=64):
    """Samples that begin from (1.7, 1.7) of p at a level of noise, and the world."""
    world = ShownWorld(1, num_steps, log_snr=(7.0, -8.0))
    begin = {"p": sampling.Noised(jnp.full((NUM, DIMS), 1.7), level)}
    method = sampling.Method("ancestral", order=("p",))
    samples = jax.jit(
        lambda key: sampling.sample(key, world.diffusion(), (NUM, DIMS), method=method, begin=begin)
    )(jax.random.key(0))["p"]
    return np.asarray(samples), world


def test_samples_that_begin_from_given_values_follow_the_posterior():
    """p(z_0 | z_s) averaged over q(z_s | given), which is Gaussian here."""
    samples, world = begun(0.5)
    bar = float(world.schedule.alpha_bar[32])
    prior = world.covariance[0, 0]
    gain = bar * prior / (bar * prior + 1 - bar)
    mean = world.mean[0] + gain * (1.7 - world.mean[0])
    # Of the noise in z_s, and of what z_s leaves open.
    variance = gain**2 * (1 - bar) / bar + (1 - gain) * prior
    assert stats.kstest(samples[:, 0], stats.norm(mean, variance**0.5).cdf).pvalue > 0.001


def test_little_noise_keeps_the_values_and_full_noise_forgets_them():
    near, _ = begun(1 / 64)
    assert np.abs(near - 1.7).max() < 0.3
    far, world = begun(1.0)
    law = stats.norm(world.mean[0], world.covariance[0, 0] ** 0.5)
    assert stats.kstest(far[:, 0], law.cdf).pvalue > 0.001


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ({"fixed": {"x0": None}}, "`fixed`: got 'x0'.*it is not diffused"),
        ({"begin": {"p": sampling.Noised(jnp.zeros((3, DIMS)), 0.1)}}, "`level`: got 0.1"),
    ],
)
def test_parts_of_what_is_not_diffused_and_levels_below_all(part, words):
    world = ShownWorld(1, 4)
    with pytest.raises(ValueError, match=words):
        sampling.sample(jax.random.key(0), world.diffusion(), (3, DIMS), **part)


SHARES = {"p": 3.0, "x0": 1.0}


def states_of(method, given=("x0",), **part):
    """The states that a network with shares in z_0 is called on, its world, p, and E(x0)."""
    world = LinearWorld(1, 20)
    inner, seen = world.model(shares=SHARES), []

    def denoise(z_t, t, roles):
        seen.append((int(t[0]), np.asarray(z_t)))
        return inner.denoise(z_t, t, roles)

    batch, _ = world.draw(3)
    model = dataclasses.replace(inner, denoise=denoise)
    with jax.disable_jit():
        sampling.sample(
            jax.random.key(0), world.diffusion(model), (3, DIMS),
            {name: batch[name] for name in given}, method,
            **{argument: {"p": of_p(batch["p"])} for argument, of_p in part.items()},
        )  # fmt: skip
    return seen, world, np.asarray(batch["p"]), np.asarray(batch["x0"]) @ world.encoders[0].T


def test_a_fixed_part_has_its_share_of_the_clean_state():
    """All of p is fixed and x0 is given, so that the last state is known but for the noise."""
    method = sampling.Method("ddim", decorators=())
    seen, world, p, code = states_of(method, fixed=lambda x: sampling.Fixed(x, jnp.ones(x.shape)))
    (t, first), (_, last) = seen[0], seen[-1]
    assert (t, seen[-1][0]) == (20, 1)
    bar = np.asarray(world.schedule.alpha_bar, np.float64)[[1, 20]]
    drift = np.asarray(world.process.weights.marginal["x0"], np.float64)[[1, 20]]
    z_0 = 0.75 * p + 0.25 * code
    # DDIM keeps the noise that it started from.
    noise = (first - bar[1] ** 0.5 * z_0 - drift[1] * code) / (1 - bar[1]) ** 0.5
    want = bar[0] ** 0.5 * z_0 + drift[0] * code + (1 - bar[0]) ** 0.5 * noise
    np.testing.assert_allclose(last, want, rtol=1e-3, atol=1e-4)


def test_a_level_begins_at_its_t_whatever_its_last_digit():
    """0.29 · 100 is below 29 in binary, and 0.07 · 100 above 7."""
    forward = process.Process(process.cosine_schedule(100))
    grid = plan(forward, np.arange(100, 0, -1), "posterior")
    begun = [
        int(sampling.Noised(jnp.zeros((1, 2)), t / 100).rest_of(grid, forward).times[0])
        for t in range(1, 101)
    ]
    assert begun == list(range(1, 101))


@pytest.mark.parametrize(("given", "unknown"), [(("x0",), "auto"), ((), "absent")])
def test_states_begin_with_all_shares_of_the_clean_state(given, unknown):
    """What the states do not carry has no share in them, as in training."""
    method = sampling.Method("ddim", decorators=(), unknown=unknown)
    options = {"method": method, "given": given, "begin": lambda x: sampling.Noised(x, 0.1)}
    seen, world, p, code = states_of(**options)
    code = code * len(given)
    t, state = seen[0]
    assert t == 2
    bar = float(world.schedule.alpha_bar[2])
    mean = bar**0.5 * (0.75 * p + 0.25 * code)
    mean += float(world.process.weights.marginal["x0"][2]) * code
    noise = (state - mean) / (1 - bar) ** 0.5
    # The same draws as of a model whose z_0 is the primary's encoding.
    plain = jax.vmap(lambda key: jax.random.normal(key, (DIMS,)))(start_keys(3))
    np.testing.assert_allclose(noise, plain, rtol=1e-3, atol=1e-3)


def start_keys(num_samples):
    """The keys of the noise that example k starts from, by the keys' own rule."""
    keys = (jax.random.fold_in(jax.random.key(0), k) for k in range(num_samples))
    return jnp.stack([jax.random.fold_in(key, 0) for key in keys])


def test_nothing_begins_where_an_unknown_modality_has_a_share():
    with pytest.raises(ValueError, match=r"`begin`: got values of 'p' alone.*\['x0'\] to be given"):
        states_of(sampling.Method(), given=(), begin=lambda x: sampling.Noised(x, 0.5))
