"""Layers that compute in bfloat16, with parameters, sums and outputs in float32."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

DTYPES = ("float32", "bfloat16")
"""What a backbone may compute its matrix products, convolutions and tokens or maps in."""


def linear(
    inputs: jax.Array, features: int, name: str, dtype: str, wide: bool = False, **options: Any
) -> jax.Array:
    """A linear layer of the module that calls it: (…, any) → (…, features).

    The product is of the given dtype. The bias is added in float32, so that its gradient, a sum
    over all places, is float32 too: a sum in bfloat16 stops growing once its terms are smaller than
    its last digit.

    Args:
        inputs: of any dtype.
        features: how many come out.
        name: of the layer.
        dtype: one of `DTYPES`, of the operands and the output.
        wide: whether the output is float32 whatever the dtype is, as of a backbone's last layer.
        **options: of `flax.linen.Dense`.
    """
    if wide:
        options["dot_general_cls"] = _wide_product
    layer = nn.Dense(features, dtype=dtype, promote_dtype=_operands, name=name, **options)
    # As one matrix: of more axes, XLA makes the kernel's gradient transposed and turns it round.
    out = layer(inputs.reshape(-1, inputs.shape[-1])).astype("float32" if wide else dtype)
    return out.reshape(*inputs.shape[:-1], features)


def convolution(
    inputs: jax.Array, features: int, name: str, dtype: str, wide: bool = False, **options: Any
) -> jax.Array:
    """A 3 × 3 convolution of the module that calls it: (batch, height, width, any) → features.

    Its arguments and its precision are those of `linear`, its options those of `flax.linen.Conv`.
    """
    if wide:
        options["conv_general_dilated_cls"] = _wide_convolution
    layer = nn.Conv(features, (3, 3), dtype=dtype, promote_dtype=_operands, name=name, **options)
    return layer(inputs).astype("float32" if wide else dtype)


def _operands(*arrays: Any, dtype: Any = None, inexact: bool = True) -> list[Any]:
    """Flax calls it to bring inputs, kernel and bias to one dtype; this one leaves the bias."""
    inputs, kernel, *bias = arrays
    return [inputs.astype(dtype), kernel.astype(dtype), *bias]


def _wide_product() -> Any:
    return functools.partial(jax.lax.dot_general, preferred_element_type=jnp.float32)


def _wide_convolution() -> Any:
    return functools.partial(jax.lax.conv_general_dilated, preferred_element_type=jnp.float32)
