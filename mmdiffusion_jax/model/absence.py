"""What is absent enters neither a value nor a gradient, whatever stands in its place."""

from typing import Any

import jax
import jax.numpy as jnp

from mmdiffusion_jax.model.answers import ask_modality
from mmdiffusion_jax.model.functions import Modal
from mmdiffusion_jax.model.roles import where_present
from mmdiffusion_jax.process.checks import at_least


def without_absent(mask: jax.Array, x: jax.Array) -> jax.Array:
    """The batch with the first present example in the place of those that are absent.

    A placeholder, which may be no value of the modality at all, so never reaches a function of it:
    masking the result alone would leave its gradient not a number, as 0 · ∞ is. Where no example is
    present, ones stand in, which most kinds of data can be.

    Args:
        mask: (batch,) of 0 or 1.
        x: (batch, …).

    Returns:
        (batch, …); what stands in has no gradient.

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


def encode_present(model: Modal, name: str, x: jax.Array, mask: jax.Array | None) -> jax.Array:
    """E(x) of one modality, (batch, *latent), zero where it is absent.

    Args:
        model: has the modality.
        name: of the modality.
        x: (batch, …).
        mask: (batch,) of 0 or 1; None where all is present.

    Raises:
        ValueError: an encoding without one row an example.
    """
    if mask is None:
        return ask_modality(model, name, "encode", x, shape=(x.shape[0], ...))
    safe = without_absent(mask, x)
    encoding = ask_modality(model, name, "encode", safe, shape=(x.shape[0], ...))
    return where_present(mask, encoding)


def nats_present(
    model: Modal, name: str, head: Any, x: jax.Array, mask: jax.Array, dtype: Any
) -> jax.Array:
    """−log p(x | z_t) of one modality, (batch,) nats, zero where it is absent.

    Args:
        model: has the modality.
        name: of the modality.
        head: parameters of the distributions.
        x: (batch, …).
        mask: (batch,) of 0 or 1.
        dtype: of the result.

    Raises:
        ValueError: likelihoods that are not one number an example.
    """
    # A head in the dtype of the state does not go with narrower data where promotion is strict.
    safe = at_least(without_absent(mask, x), jnp.zeros((), dtype))
    log_prob = ask_modality(model, name, "log_prob", head, safe, shape=x.shape[:1], dtype=dtype)
    return where_present(mask, -log_prob)
