"""Bad sizes of the U-ViT."""

import jax
import jax.numpy as jnp
import pytest

from mmdiffusion_jax.networks import UViT

LATENT = (8, 8, 1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"patch_size": 3}, "`patch_size`: got 3"),
        ({"num_heads": 5}, "`num_heads`: got 5"),
        ({"width": 15, "num_heads": 1}, "`width`: got 15"),
        ({"depth": 2}, "`depth`: got 2, expected an odd number"),
        ({"dtype": "float16"}, "`dtype`: got 'float16', expected one of 'bfloat16'"),
        ({"remat": "all"}, "`remat`: got 'all'"),
    ],
)
def test_bad_sizes(options, words):
    net = UViT(LATENT, 1, num_steps=10, **{"width": 16, "depth": 1, **options})
    with pytest.raises(ValueError, match=words):
        jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, *LATENT)), jnp.array([1]))
