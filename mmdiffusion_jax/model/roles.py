"""Roles: which part each modality plays in a training example or a query.

All roles are made in this module: for training from presence and dropout, for a query from what is
given. Encoders, denoisers, losses and guidance read them; `absence` has the masks that act on them.
"""

import dataclasses
import enum
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmdiffusion_jax import errors
from mmdiffusion_jax.model.absence import where_present
from mmdiffusion_jax.process.checks import (
    as_array,
    as_key,
    described,
    expect,
    expect_name,
    expect_names,
    expect_number,
)

Batch = Mapping[str, jax.Array]
"""{name: x (batch, …)}, the data of each modality."""

Presence = Mapping[str, jax.Array]
"""{name: (batch,) of 0 or 1}, which examples have a modality; a name left out is in all of them."""


class Role(enum.IntFlag):
    """The bits of a role; a modality without any is absent.

    Attributes:
        PRESENT: the example has a value of the modality, which is in the loss of training or was
            given in a query.
        CARRIED: the state z_t has its encoding in it, the true or an estimated one: a secondary's
            drives the process, the primary's is z_0.
    """

    PRESENT = 1
    CARRIED = 2


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Roles:
    """Which part each modality plays, example by example.

    Attributes:
        values: {name: (batch,) integers, sums of the bits in `Role`}.

    Example:
        >>> roles = all_carried(["image", "label"], 2).without("label")
        >>> roles.present("label").tolist(), roles.carried("label").tolist()
        ([True, True], [False, False])
    """

    values: Mapping[str, jax.Array]

    def present(self, name: str) -> jax.Array:
        """(batch,) booleans, the examples that have a value of the modality."""
        return self._has(name, Role.PRESENT)

    def carried(self, name: str) -> jax.Array:
        """(batch,) booleans, the examples whose state carries the modality."""
        return self._has(name, Role.CARRIED)

    def without(self, name: str) -> "Roles":
        """The same roles, but that no state carries the modality."""
        value = self._value(name) & ~int(Role.CARRIED)
        return Roles({**self.values, name: value})

    def mask(self, encodings: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """{name: encodings (batch, *latent)}, zero where the state does not carry the modality.

        Raises:
            ValueError: a name without a role, or roles of another number of examples.

        Example:
            >>> roles = all_carried(["label"], 1).without("label")
            >>> roles.mask({"label": jnp.array([[jnp.nan]])})["label"].tolist()
            [[0.0]]
        """
        return {
            name: where_present(self.carried(name), as_array(f"encodings[{name!r}]", encoding))
            for name, encoding in expect_names("encodings", encodings, "(batch, *latent)").items()
        }

    def _value(self, name: str) -> jax.Array:
        expect_name("roles", name, self.values, none="there are no roles")
        return self.values[name]

    def _has(self, name: str, bit: Role) -> jax.Array:
        return (self._value(name) & int(bit)) != 0


def all_carried(names: Iterable[str], num_examples: int) -> Roles:
    """The roles of `num_examples` examples that have and carry all modalities of these names."""
    both = jnp.full((num_examples,), int(Role.PRESENT | Role.CARRIED), jnp.int32)
    return Roles(dict.fromkeys(names, both))


def training_roles(
    names: Iterable[str],
    batch: Batch,
    presence: Presence | None = None,
    dropout: Mapping[str, float] | None = None,
    key: jax.Array | None = None,
) -> Roles:
    """The roles of a training batch: the states carry what is present, unless it is dropped.

    A modality that is dropped from a state, at random, stays in the loss: so the heads learn to
    predict x_i from a state that does not carry it, and the denoiser learns the branch without
    modality i that classifier-free guidance needs.

    Args:
        names: of all modalities.
        batch: {name: x (batch, …)}; every modality must be there.
        presence: {name: (batch,) bool or 0/1}; a name left out is present everywhere.
        dropout: {name: probability of being dropped}; left out, nothing is dropped.
        key: a typed key; needed where anything is dropped.

    Raises:
        ValueError: a modality missing from the batch, a batch without examples, modalities of
            different batch sizes; a mask for an unknown modality, of the wrong shape or with other
            values than 0 and 1 (outside jit); a rate for an unknown modality, or outside [0, 1].

    Example:
        >>> batch = {"image": jnp.zeros((2, 3)), "label": jnp.zeros(2)}
        >>> roles = training_roles(batch, batch, {"label": jnp.array([1, 0])})
        >>> roles.carried("image").tolist(), roles.carried("label").tolist()
        ([True, True], [True, False])
    """
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise errors.invalid(
            "names", described(names), "the names of all modalities", "pass model.modalities"
        )
    masks = _presence_masks(tuple(names), batch, presence)
    rates = expect_names("dropout", {} if dropout is None else dropout, "probability")
    for name, rate in rates.items():
        expect_name("dropout", name, masks, none="there are no modalities")
        expected = "a probability in [0, 1]"
        expect_number(f"dropout[{name!r}]", rate, expected, lambda x: 0 <= x <= 1)
    values = {}
    for name, mask in masks.items():
        carried = mask
        if name in rates:
            index = sorted(rates).index(name)
            drop_key = jax.random.fold_in(as_key("key", key), index)
            carried = mask & jax.random.bernoulli(drop_key, 1 - rates[name], mask.shape)
        present_bit, carried_bit = (x.astype(jnp.int32) for x in (mask, carried))
        values[name] = int(Role.PRESENT) * present_bit + int(Role.CARRIED) * carried_bit
    return Roles(values)


def query_roles(
    names: Iterable[str], num_samples: int, given: Iterable[str], absent: Iterable[str] = ()
) -> Roles:
    """The roles of a query: given modalities are present, and states carry all but the absent.

    Args:
        names: of all modalities.
        num_samples: how many samples are to be drawn.
        given: the modalities whose values are given.
        absent: the modalities that the states do not carry.
    """
    given, absent = set(given), set(absent)
    values = {}
    for name in names:
        role = int(Role.PRESENT) * (name in given) + int(Role.CARRIED) * (name not in absent)
        values[name] = jnp.full((num_samples,), role, jnp.int32)
    return Roles(values)


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
    suffix = "_present"
    masks = {name for name in batch if name.endswith(suffix) and name.removesuffix(suffix) in batch}
    values = {name: x for name, x in batch.items() if name not in masks}
    for name, x in values.items():
        if name.endswith(suffix) and getattr(x, "dtype", None) == jnp.bool_:
            masks_of = [f"{other}{suffix}" for other in values if other != name]
            raise errors.unknown("batch", name, masks_of, none="the batch has no other column")
    return values, {name.removesuffix(suffix): batch[name] for name in masks}


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


def expect_roles(roles: Roles, names: Iterable[str], num_examples: int) -> Roles:
    """The roles, checked to be of these modalities and this many examples.

    Raises:
        ValueError: anything but roles, a modality without one, or another number of examples.
    """
    expect("roles", roles, Roles, "make them by model.training_roles")
    for name in names:
        expect_name("roles", name, roles.values, f"{name!r} has no role", none="there are no roles")
        shape = jnp.shape(roles.values[name])
        if shape != (num_examples,):
            raise errors.invalid(
                f"roles[{name!r}]",
                f"shape {shape}",
                f"shape ({num_examples},)",
                "give one role an example",
            )
    return roles


def _presence_masks(
    names: tuple[str, ...], batch: Batch, presence: Presence | None
) -> dict[str, jax.Array]:
    """{name: (batch,) booleans}, the examples that have each modality."""
    for name in names:
        expect("names", name, str, "pass model.modalities")
    counts = {name: column(batch, name, names).shape[0] for name in names}
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
