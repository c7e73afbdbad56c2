"""The parts of the U-Net, and its bad sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from mmdiffusion_jax.networks import UNet
from mmdiffusion_jax.networks.unet import GroupNorm


@pytest.mark.parametrize("size", [3.0, 3e-3])
def test_group_norm_equals_torch(size):
    draw = np.random.default_rng(0).normal
    grid = (size * (draw(size=(2, 4, 3, 8)) + 1)).astype(np.float32)
    gain, offset, scale, shift = (draw(size=(n, 8)).astype(np.float32) for n in (1, 1, 2, 2))
    params = {"params": {"scale": gain[0], "bias": offset[0]}}
    got = jax.jit(GroupNorm(4).apply)(params, grid, scale, shift)
    want = torch.nn.functional.group_norm(
        torch.tensor(grid).permute(0, 3, 1, 2), 4, *map(torch.tensor, (gain[0], offset[0]))
    )
    want = want.permute(0, 2, 3, 1).numpy() * (1 + scale[:, None, None]) + shift[:, None, None]
    np.testing.assert_allclose(got, want, atol=2e-5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"channel_mults": (1, 1, 1, 1, 1)}, r"`channel_mults`: got \(1, 1, 1, 1, 1\), .*halve"),
        ({"num_groups": 12}, "`num_groups`: got 12, expected a divisor of the 32 channels"),
        ({"num_head_channels": 48}, "`num_head_channels`: got 48, .* of the 64 channels"),
    ],
)
def test_bad_sizes(options, words):
    net = UNet((8, 8, 1), 1, num_steps=10, **{"width": 32, **options})
    with pytest.raises(ValueError, match=words):
        jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, 8, 8, 1)), jnp.array([1]))
