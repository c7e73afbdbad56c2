"""Attention against PyTorch, and what each platform is given to compute it."""

import jax
import numpy as np
import pytest
import torch
from jax._src.cudnn import fused_attention_stablehlo

from mmdiffusion_jax.networks import attention
from tests.networks.small_nets import arguments, small

# The library's products leave the heads where they are; ours bring them to the front.
LIBRARY, OURS = "batching_dims = [0, 2] x [0, 2]", "batching_dims = [0, 1] x [0, 1]"
FUSED = "__cudnn$fmha"


@pytest.mark.parametrize("size", [1.0, 30.0])
def test_attention_equals_torch(size):
    draws = (size * np.random.default_rng(i).normal(size=(2, 5, 3, 4)) for i in range(3))
    query, key, value = (x.astype(np.float32) for x in draws)
    got = jax.jit(attention.explicit_attention)(query, key, value)
    heads = (torch.tensor(x).transpose(1, 2) for x in (query, key, value))
    want = torch.nn.functional.scaled_dot_product_attention(*heads).transpose(1, 2)
    np.testing.assert_allclose(got, want.numpy(), rtol=1e-4, atol=1e-5 * size)


def program(platform, batch=3, **options):
    """The step of a DiT, lowered for a platform that need not be here."""
    net = small("dit", depth=1, **options)
    inputs = arguments(net, batch)
    params = jax.eval_shape(net.init, jax.random.key(0), *inputs)

    def loss(params, *rest):
        return net.apply(params, *rest)[1].sum()

    traced = jax.jit(jax.grad(loss)).trace(params, *inputs)
    return traced.lower(lowering_platforms=(platform,)).as_text()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("platform", "form"), [("cpu", OURS), ("cuda", LIBRARY), ("tpu", LIBRARY)])
def test_each_platform_has_its_form(platform, form, dtype):
    text = program(platform, dtype=dtype)
    assert form in text
    assert ({LIBRARY, OURS} - {form}).pop() not in text
    assert FUSED not in text


@pytest.mark.parametrize(
    ("options", "fused"),
    [
        ({"dtype": "bfloat16"}, True),
        ({"dtype": "float32"}, False),
        ({"dtype": "bfloat16", "num_heads": 4}, False),
    ],
)
def test_the_fused_kernel_where_it_can_run(monkeypatch, options, fused):
    """With a GPU feigned; heads of 4 channels are too small for it."""
    monkeypatch.setattr(attention, "_has_fused_kernel", lambda: True)
    monkeypatch.setattr(fused_attention_stablehlo, "check_cudnn_version", lambda: 91000)
    # A batch of its own, as jax remembers what it traced for shapes that it has seen.
    text = program("cuda", batch=2, **options)
    assert (FUSED in text) == fused
    assert (LIBRARY in text) != fused
    assert FUSED not in program("cpu", batch=2, **options)
