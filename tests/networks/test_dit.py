"""The DiT: patches, and bad sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdiffusion_jax.networks import DiT

LATENT = (8, 8, 1)


def test_patches_are_local():
    """With one block's gates at zero, a pixel touches its own patch's features alone."""
    net = DiT(LATENT, 1, num_steps=10, width=16, depth=1, num_heads=2)
    z, t = jnp.zeros((1, *LATENT)), jnp.array([3])
    params = jax.jit(net.init)(jax.random.key(0), z, t)
    grid = jax.jit(lambda z: net.apply(params, z, t)[0].grid)
    base, moved = grid(z), grid(z.at[0, 5, 2, 0].set(1.0))
    touched = np.argwhere(np.abs(np.asarray(moved - base)).max(-1) > 0)
    assert touched.tolist() == [[0, 2, 1]]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"patch_size": 3}, "`patch_size`: got 3"),
        ({"num_heads": 5}, "`num_heads`: got 5"),
        ({"frequencies": 1}, "`frequencies`: got 1, expected 0, or 2 and more"),
        ({"positions": "sincoss"}, "`positions`: got 'sincoss'.*did you mean 'sincos'"),
        ({"positions": "sincos", "width": 18, "num_heads": 1}, "`width`: got 18"),
        ({"dtype": "bfloat61"}, "`dtype`: got 'bfloat61'.*did you mean 'bfloat16'"),
        ({"remat": "dots"}, "`remat`: got 'dots', expected one of 'dots_saveable'"),
    ],
)
def test_bad_sizes(options, words):
    net = DiT(LATENT, 1, num_steps=10, **{"width": 16, "depth": 1, **options})
    with pytest.raises(ValueError, match=words):
        jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, *LATENT)), jnp.array([1]))
