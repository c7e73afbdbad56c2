"""Self-attention, in the form that is fastest on the platform."""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmdiffusion_jax import errors
from mmdiffusion_jax.networks.precision import linear

_LECUN = nn.initializers.lecun_normal()


def self_attention(
    tokens: jax.Array,
    num_heads: int,
    use_bias: bool = True,
    kernel_init: Callable[..., jax.Array] = _LECUN,
    out_init: Callable[..., jax.Array] | None = None,
    dtype: str = "float32",
    prepare: Callable[[jax.Array, str], jax.Array] | None = None,
) -> jax.Array:
    """Multi-head self-attention; its four layers belong to the module that calls it.

    Args:
        tokens: (batch, length, width).
        num_heads: divides the width.
        use_bias: whether query, key and value have biases.
        kernel_init: initialises the kernels.
        out_init: initialises the output's kernel; left out, `kernel_init` does.
        dtype: of the products and the output; the softmax is float32 in any case.
        prepare: what happens to queries and keys (batch, length, heads, depth) before their
            product, told "query" or "key"; left out, nothing.

    Returns:
        (batch, length, width).
    """
    # Separate projections: a fused one that is sliced afterwards is slower on CPU.
    width = tokens.shape[-1]
    query, key, value = (
        linear(tokens, width, name, dtype, use_bias=use_bias, kernel_init=kernel_init).reshape(
            *tokens.shape[:2], num_heads, width // num_heads
        )
        for name in ("query", "key", "value")
    )
    if prepare is not None:
        query, key = prepare(query, "query"), prepare(key, "key")
    # For TPU the compiler's own estimates favour the library's form in bfloat16.
    mixed = jax.lax.platform_dependent(
        query,
        key,
        value,
        cuda=cuda_attention,
        tpu=jax.nn.dot_product_attention,
        default=explicit_attention,
    )
    mixed = mixed.reshape(tokens.shape)
    return linear(mixed, width, "out", dtype, kernel_init=out_init or kernel_init)


def explicit_attention(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
    """softmax(q kᵀ / sqrt(depth)) v as two batched products; the fastest form on CPU.

    Query, key and value have the shape (batch, length, heads, depth); so has the result, in the
    dtype of the values. The division by the softmax's sum comes after the second product, whose
    result has fewer values.

    Example:
        >>> one = jnp.ones((1, 3, 2, 4))
        >>> explicit_attention(one, one, 2 * one)[0, 0, 0].tolist()
        [2.0, 2.0, 2.0, 2.0]
    """
    query, key, value = (x.transpose(0, 2, 1, 3) for x in (query, key, value))
    scores = jnp.matmul(query, key.swapaxes(-1, -2), preferred_element_type=jnp.float32)
    # The largest score changes the sum and the product alike, so it needs no derivative.
    largest = jax.lax.stop_gradient(scores.max(axis=-1, keepdims=True))
    shares = jnp.exp((scores - largest) * query.shape[-1] ** -0.5)
    mixed = shares.astype(value.dtype) @ value / shares.sum(axis=-1, keepdims=True)
    return mixed.astype(value.dtype).transpose(0, 2, 1, 3)


def cuda_attention(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
    """As `explicit_attention`, by cuDNN's fused kernel where that can run, else by XLA.

    The kernel needs bfloat16, a head depth that is a multiple of 8 up to 128, and a GPU of compute
    capability 8 or more already where the program is compiled. It has no forward-mode derivative
    (`jax.jvp`, `jax.linearize`).
    """
    depth = query.shape[-1]
    fits = query.dtype == jnp.bfloat16 and depth % 8 == 0 and depth <= 128
    if fits and _has_fused_kernel():
        return jax.nn.dot_product_attention(query, key, value, implementation="cudnn")
    return jax.nn.dot_product_attention(query, key, value)


@functools.cache
def _has_fused_kernel() -> bool:
    try:
        devices = jax.local_devices(backend="cuda")
    except RuntimeError:
        return False
    return all(float(device.compute_capability) >= 8 for device in devices)


def check_heads(num_heads: int, width: int) -> None:
    """Checks that the attention heads share the width evenly.

    Raises:
        ValueError: heads that do not divide the width.
    """
    if width % num_heads:
        raise errors.invalid("num_heads", num_heads, f"a divisor of the width {width}", "change it")
