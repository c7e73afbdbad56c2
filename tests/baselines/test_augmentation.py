"""Black squares in training images."""

import jax
import jax.numpy as jnp
import numpy as np

from mmdiffusion_jax.baselines import hide_squares


def test_squares_hide_a_share_of_the_images():
    images = jnp.full((4000, 6, 6, 1), 7, jnp.uint8)
    covered, squared = jax.jit(hide_squares, static_argnums=(2, 3, 4))(
        jax.random.key(0), images, 0.3, 2, 2
    )
    black = np.asarray(squared[..., 0]) == 0
    assert abs(float(covered.mean()) - 0.3) < 0.03
    np.testing.assert_array_equal(black.any((1, 2)), np.asarray(covered) == 1)
    # Two squares of four pixels each, that may overlap.
    counts = black.sum((1, 2))[np.asarray(covered) == 1]
    assert counts.min() >= 4
    assert counts.max() == 8
    # A corner is covered by one of 25 places of each square.
    share = black[np.asarray(covered) == 1, 0, 0].mean()
    assert abs(share - (1 - (24 / 25) ** 2)) < 0.03
