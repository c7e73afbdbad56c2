"""Batches: the data of each modality, and the masks of the examples that have it."""

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmdiffusion_jax import errors
from mmdiffusion_jax.process.checks import as_array, described, expect, expect_name, expect_names

Batch = Mapping[str, jax.Array]
"""{name: x (batch, …)}, the data of each modality."""

Presence = Mapping[str, jax.Array]
"""{name: (batch,) of 0 or 1}, which examples have a modality; a name left out is in all of them."""

_SUFFIX = "_present"


def split_presence(batch: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Splits columns `<name>_present` off a batch: (values, presence masks).

    Such a column is a mask where the batch has `<name>`, and else a modality of that name.

    Raises:
        ValueError: no dictionary, or booleans `<name>_present` without a column `<name>`.

    Example:
        >>> values, presence = split_presence({"label": 1, "label_present": 2})
        >>> values, presence
        ({'label': 1}, {'label': 2})
    """
    expect_names("batch", batch, "x (batch, …)")
    masks = {
        name for name in batch if name.endswith(_SUFFIX) and name.removesuffix(_SUFFIX) in batch
    }
    values = {name: x for name, x in batch.items() if name not in masks}
    for name, x in values.items():
        if name.endswith(_SUFFIX) and getattr(x, "dtype", None) == jnp.bool_:
            masks_of = [f"{other}{_SUFFIX}" for other in values if other != name]
            raise errors.unknown("batch", name, masks_of, none="the batch has no other column")
    return values, {name.removesuffix(_SUFFIX): batch[name] for name in masks}


def column(batch: Batch, name: str, names: Iterable[str] = ()) -> jax.Array:
    """One modality's x (batch, …) of a batch that should have `names`, as an array.

    Raises:
        ValueError: no dictionary, no such name in it, or a value without examples.

    Example:
        >>> column({"label": [3, 1]}, "label").shape
        (2,)
    """
    if name not in expect_names("batch", batch, "x (batch, …)"):
        raise errors.invalid(
            "batch",
            f"nothing for {name!r} among {sorted(batch)}",
            f"an array for each of {sorted({name, *names})}",
            "where it is missing from some examples, pass any value and a presence mask",
        )
    argument = f"batch[{name!r}]"
    x = as_array(argument, batch[name], "an array (batch, …)")
    if not x.ndim or not x.shape[0]:
        raise errors.invalid(
            argument,
            f"shape {x.shape}" if x.ndim else described(batch[name]),
            "(batch, …) with at least one example",
            "leave empty batches out" if x.ndim else "give it a leading batch axis",
        )
    return x


def presence_masks(
    names: tuple[str, ...], batch: Batch, presence: Presence | None
) -> dict[str, jax.Array]:
    """{name: (batch,) booleans}, the examples that have each modality.

    Raises:
        ValueError: columns that are missing, or of different lengths; masks among the columns, of
            an unknown modality, of the wrong shape, or of other values than 0 and 1.
    """
    for name in names:
        expect("names", name, str, "pass model.modalities")
    counts = {name: column(batch, name, names).shape[0] for name in names}
    _refuse_masks(names, batch)
    size = next(iter(counts.values()), 0)
    for name, count in counts.items():
        if count != size:
            raise errors.invalid(
                f"batch[{name!r}]",
                f"{count} examples",
                f"{size}, as the other modalities have",
                "give every modality the same leading axis",
            )
    masks = {name: jnp.ones((size,), bool) for name in names}
    presence = {} if presence is None else presence
    for name, given in expect_names("presence", presence, "(batch,) of 0 or 1").items():
        expect_name("presence", name, masks)
        mask = as_array(f"presence[{name!r}]", given, "(batch,) of 0 or 1")
        if mask.shape != (size,):
            raise errors.invalid(
                f"presence[{name!r}]",
                f"shape {mask.shape}",
                f"shape ({size},)",
                "give one 0 or 1 an example",
            )
        # On the host: under jit the comparison of known values would be traced.
        if not isinstance(mask, jax.core.Tracer) and not np.isin(np.asarray(mask), (0, 1)).all():
            raise errors.invalid(
                f"presence[{name!r}]",
                f"values from {np.asarray(mask).min()} to {np.asarray(mask).max()}",
                "0 or 1 each",
                "an example has a modality or has it not",
            )
        masks[name] = mask.astype(bool)
    return masks


def _refuse_masks(names: tuple[str, ...], batch: Batch) -> None:
    """Refuses a column that is the mask of a modality: it would be ignored in silence."""
    for name in names:
        mask = name + _SUFFIX
        if mask in batch and mask not in names:
            raise errors.invalid(
                "batch",
                f"a column {mask!r}",
                "modalities alone, and their masks as the argument `presence`",
                "part them by values, presence = model.split_presence(batch)",
            )
