"""Masks that keep what is absent out of values and gradients, whatever stands in its place.

Which modality is absent from which example is said by `Roles`; a mask is one row of them.
"""

from typing import Any

import jax
import jax.numpy as jnp

from mmdiffusion_jax import errors
from mmdiffusion_jax.process.checks import as_array


def where_present(mask: jax.Array, values: jax.Array) -> jax.Array:
    """The values (batch, …) where the mask (batch,) is 1, and zeros elsewhere.

    Raises:
        ValueError: a mask of another length.

    Example:
        >>> where_present(jnp.array([0.0, 1.0]), jnp.array([jnp.inf, 2.0])).tolist()
        [0.0, 2.0]
    """
    mask, values = as_array("mask", mask), as_array("values", values)
    if values.shape[: mask.ndim] != mask.shape:
        raise errors.invalid(
            "mask",
            f"shape {mask.shape}",
            f"the leading axes of the values, whose shape is {values.shape}",
            "give one 0 or 1 an example",
        )
    rows = mask.astype(bool).reshape(mask.shape + (1,) * (values.ndim - mask.ndim))
    return jnp.where(rows, values, jnp.zeros((), values.dtype))


def choose_rows(mask: jax.Array, values: Any, others: Any) -> Any:
    """The rows of one pytree where the mask (batch,) is 1, and those of another like it elsewhere.

    Example:
        >>> choose_rows(jnp.array([1, 0]), jnp.array([1.0, 2.0]), jnp.array([3.0, 4.0])).tolist()
        [1.0, 4.0]
    """

    def choose(value: jax.Array, other: jax.Array) -> jax.Array:
        rows = mask.astype(bool).reshape(mask.shape + (1,) * (value.ndim - mask.ndim))
        return jnp.where(rows, value, other)

    return jax.tree.map(choose, values, others)


def without_absent(mask: jax.Array, x: jax.Array) -> jax.Array:
    """x (batch, …) with the first present example in the place of those that are absent.

    So a placeholder, which may be no value of the modality at all, never reaches a function of it:
    if the result alone were masked, its gradient would not be a number, as 0 · ∞ is none. Where no
    example is present, ones stand in, which most kinds of data can be. They have no gradient.

    Example:
        >>> x = jnp.array([jnp.nan, 3.0, 4.0])
        >>> without_absent(jnp.array([0, 1, 1]), x).tolist()
        [3.0, 3.0, 4.0]
        >>> without_absent(jnp.zeros(3), x).tolist()
        [1.0, 1.0, 1.0]
    """
    present = mask.astype(bool)
    first = present & (jnp.arange(present.shape[0]) == jnp.argmax(present))
    # A sum over all rows, not an index: over devices that is the sum of one row of each.
    row = jnp.sum(where_present(first, x), axis=0, dtype=x.dtype)
    row = jax.lax.stop_gradient(jnp.where(jnp.any(present), row, jnp.ones((), x.dtype)))
    return jnp.where(
        present.reshape(present.shape + (1,) * (x.ndim - 1)), x, jnp.broadcast_to(row, x.shape)
    )
