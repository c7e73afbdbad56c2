"""What is certain of the primary stays in every sample, bit for bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from scipy import stats

from configs import smoke
from mmdiffusion_jax import experiment, sampling
from tests.shown_world import DIMS, ShownWorld

NUM = 2000


def test_a_fixed_part_stays_and_the_rest_is_drawn_beside_it():
    """One coordinate is given, and the other has its own law."""
    world = ShownWorld(1, 64, log_snr=(7.0, -8.0))
    values = jnp.full((NUM, DIMS), 1.7)
    fixed = sampling.Fixed(values, jnp.array([True, False]))
    method = sampling.Method("ancestral", order=("p",))
    samples = jax.jit(
        lambda key: sampling.sample(key, world.diffusion(), (NUM, DIMS), method=method, fixed=fixed)
    )(jax.random.key(0))["p"]
    np.testing.assert_array_equal(samples[:, 0], values[:, 0])
    # The coordinates of p are independent in this world.
    law = stats.norm(world.mean[1], world.covariance[1, 1] ** 0.5)
    assert stats.kstest(np.asarray(samples)[:, 1], law.cdf).pvalue > 0.001


def test_a_mask_of_another_shape():
    world = ShownWorld(1, 4)
    fixed = sampling.Fixed(jnp.zeros((3, DIMS)), jnp.zeros((3, 5), bool))
    with pytest.raises(ValueError, match=r"`fixed.mask`: got shape \(3, 5\)"):
        sampling.sample(jax.random.key(0), world.diffusion(), (3, DIMS), fixed=fixed)


@pytest.mark.parametrize("tasks", [{}, {"image, label, masked": 1.0}])
@pytest.mark.parametrize("read", ["most_likely", "draw"])
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
