"""What is absent enters neither a value nor a gradient, whatever stands in its place."""

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from mmdiffusion_jax import errors
from mmdiffusion_jax.process import Modal, ask_modality, where_present
from mmdiffusion_jax.process.checks import as_array, at_least, described, expect_names

Batch = Mapping[str, jax.Array]
Masks = Mapping[str, jax.Array]


def column(batch: Batch, name: str, known: Iterable[str] = ()) -> jax.Array:
    """One modality's values of a batch as an array with at least one example.

    Args:
        batch: {name: x (batch, …)}.
        name: of the modality.
        known: all names that should be there, for the error.

    Raises:
        ValueError: no dictionary, no such name in it, or a value without examples.

    Example:
        >>> column({"label": [3, 1]}, "label").shape
        (2,)
    """
    if name not in expect_names("batch", batch, "x (batch, …)"):
        raise ValueError(
            errors.message(
                "batch",
                f"nothing for {name!r} among {sorted(batch)}",
                f"an array for each of {sorted({name, *known})}",
                "where it is missing from some examples, pass any value and a presence mask",
            )
        )
    argument = f"batch[{name!r}]"
    x = as_array(argument, batch[name], "an array (batch, …)")
    if not x.ndim or not x.shape[0]:
        raise ValueError(
            errors.message(
                argument,
                f"shape {x.shape}" if x.ndim else described(batch[name]),
                "(batch, …) with at least one example",
                "leave empty batches out" if x.ndim else "give it a leading batch axis",
            )
        )
    return x


def mask_of(masks: Masks, name: str, size: int, argument: str = "present") -> jax.Array:
    """One modality's mask, (size,) of 0 or 1.

    Args:
        masks: {name: (batch,) of 0 or 1}, filled in as by `present_in`.
        name: of the modality.
        size: how many examples there are.
        argument: what the caller knows the masks by.

    Raises:
        ValueError: no mask of that name, or one of another length.
    """
    if name not in expect_names(argument, masks, "(batch,) of 0 or 1"):
        raise ValueError(
            errors.message(
                argument,
                f"nothing for {name!r} among {sorted(masks)}",
                "a mask for each modality",
                "fill them in by objective.present_in",
            )
        )
    mask = as_array(f"{argument}[{name!r}]", masks[name], "(batch,) of 0 or 1")
    if mask.shape != (size,):
        raise ValueError(
            errors.message(
                f"{argument}[{name!r}]",
                f"shape {mask.shape}",
                f"shape ({size},)",
                "give one 0 or 1 an example",
            )
        )
    return mask


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
    here = mask.astype(bool)
    first = here & (jnp.arange(here.shape[0]) == jnp.argmax(here))
    # A sum over all rows, not an index: over devices that is the sum of one row of each.
    row = jnp.sum(where_present(first, x), axis=0, dtype=x.dtype)
    row = jax.lax.stop_gradient(jnp.where(jnp.any(here), row, jnp.ones((), x.dtype)))
    return jnp.where(
        here.reshape(here.shape + (1,) * (x.ndim - 1)), x, jnp.broadcast_to(row, x.shape)
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
