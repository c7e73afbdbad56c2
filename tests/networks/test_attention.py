"""Attention against PyTorch."""

import jax
import numpy as np
import pytest
import torch

from mmdiffusion_jax.networks import attention


@pytest.mark.parametrize("size", [1.0, 30.0])
def test_attention_equals_torch(size):
    draws = (size * np.random.default_rng(i).normal(size=(2, 5, 3, 4)) for i in range(3))
    query, key, value = (x.astype(np.float32) for x in draws)
    got = jax.jit(attention.explicit_attention)(query, key, value)
    heads = (torch.tensor(x).transpose(1, 2) for x in (query, key, value))
    want = torch.nn.functional.scaled_dot_product_attention(*heads).transpose(1, 2)
    np.testing.assert_allclose(got, want.numpy(), rtol=1e-4, atol=1e-5 * size)
