"""The formulas against the products in the traced networks, and the compiled step against both."""

import jax
import jax.numpy as jnp
import pytest

from benchmarks.speed.flops import forward_flops
from mmdiffusion_jax.networks import DiT, UNet, UViT
from mmdiffusion_jax.training import product_flops
from tests.networks.small_nets import CONTEXT, arguments, shapes, step

FIELDS = {"width": 16, "num_heads": 2}
LEVELS = {"width": 16, "num_groups": 8, "num_head_channels": 8}


@pytest.mark.parametrize(
    ("net", "context"),
    [
        (DiT((8, 12, 3), 6, 10, depth=2, **FIELDS), 0),
        (DiT((8, 12, 3), 6, 10, 4, depth=3, frequencies=10, mlp_ratio=3, **FIELDS), 5),
        (DiT((8, 12, 3), 6, 10, depth=3, scan_layers=True, dtype="bfloat16", **FIELDS), 1),
        (UViT((8, 12, 3), 6, 10, depth=5, **FIELDS), 3),
        (UViT((8, 12, 3), 6, 10, 4, depth=1, mlp_ratio=2, final_conv=False, **FIELDS), 0),
        (
            UNet(
                (8, 12, 3), 6, 10, channel_mults=(1, 2, 3), attention_resolutions=(8, 2), **LEVELS
            ),
            3,
        ),
        (
            UNet(
                (8, 12, 3), 6, 10, channel_mults=(1, 1.5), num_res_blocks=1, patch_size=2, **LEVELS
            ),
            0,
        ),
        (UNet((4, 1, 3), 6, 10, channel_mults=(1,), bottleneck_features=True, **LEVELS), 0),
        (UNet((4, 6, 3), 6, 10, channel_mults=(1,), patch_size=2, skip_filters=3, **LEVELS), 0),
    ],
)
def test_the_formulas_equal_the_traced_products(net, context):
    inputs = [jnp.zeros((2, *net.latent)), jnp.ones(2)] + [jnp.zeros((2, context))] * (context > 0)
    params = jax.eval_shape(net.init, jax.random.key(0), *inputs)
    assert product_flops(net.apply, params, *inputs) == 2 * forward_flops(net, context)


@pytest.mark.parametrize(
    ("net", "first"),
    [
        (DiT((16, 16, 4), 4, 10, width=512, depth=2, num_heads=8), 64 * 16 + 512 + CONTEXT),
        (UViT((16, 16, 4), 4, 10, width=512, depth=3, num_heads=8), 64 * 16 + CONTEXT),
        pytest.param(
            UNet((8, 8, 4), 4, 10, width=128, channel_mults=(1, 1), num_res_blocks=1),
            22**2 * 4 + 4 * 128 + 4 * CONTEXT,
            marks=pytest.mark.long,
        ),
    ],
    ids=["dit", "uvit", "unet"],
)
def test_a_step_computes_nothing_twice(net, first):
    """The compiled gradient takes three forward passes, but for the first layers' inputs, and 2%.

    A norm or a reduction that the compiler repeats in each of its uses is more than that. The
    count is the same at every optimisation level, and the products are most of it at this width.

    `first` is the multiply-adds of the layers on z_t, t and the context, over the width.
    """
    params, inputs = shapes(net), arguments(net, batch=2)
    expected = 2 * (3 * forward_flops(net, CONTEXT) - 2 * first * net.width)
    assert product_flops(step(net), params, *inputs) == expected
    compiled = jax.jit(step(net)).lower(params, *inputs).compile()
    assert 1 <= compiled.cost_analysis()["flops"] / expected <= 1.02
