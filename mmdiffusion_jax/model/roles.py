"""Roles: which part each modality plays in a training example or a query.

Encoders, denoisers, losses and guidance read them; `absence` has the masks that act on them.
Training makes them of presence, tasks and dropout (`tasks`), a query of what is given.
"""

import dataclasses
import enum
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from mmdiffusion_jax import errors
from mmdiffusion_jax.model.absence import choose_rows, where_present
from mmdiffusion_jax.process.checks import as_array, expect, expect_name, expect_names


class Role(enum.IntFlag):
    """The bits of a role; a modality without any is absent.

    Attributes:
        PRESENT: the example has a value of the modality.
        CARRIED: the state z_t has its encoding in it, the true or an estimated one: a secondary's
            drives the process, the primary's is z_0.
        KNOWN: the network sees its encoding beside z_t, clear or at a noise level of its own; it is
            given, so the loss does not count it.
        DIFFUSED: z_0 is the encoding of this secondary, in the place of the primary's.
        VIEWED: the network sees its encoding under noise beside z_t, though it is asked for.
        BELIEVED: the example lacks it, and its task knows it: the network is to see the model's own
            draw, as if it were known.
        ESTIMATED: the network sees its own estimate of the encoding, from a first call on the same
            state, beside z_t, though it is asked for.

    Example:
        >>> given = Role.PRESENT | Role.KNOWN
        >>> bool(given & Role.seen()), bool(given & Role.CARRIED)
        (True, False)
    """

    PRESENT = 1
    CARRIED = 2
    KNOWN = 4
    DIFFUSED = 8
    VIEWED = 16
    BELIEVED = 32
    ESTIMATED = 64

    @classmethod
    def seen(cls) -> "Role":
        """The bits of what the network sees beside z_t."""
        return cls.KNOWN | cls.VIEWED | cls.ESTIMATED


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Roles:
    """Which part each modality plays, example by example, and what the network sees of it.

    Attributes:
        values: {name: (batch,) integers, sums of the bits in `Role`}.
        encodings: {name: E(x) (batch, *latent)} of modalities that are known to some examples.
        levels: {name: (batch,) s/T in [0, 1]}, the noise in these encodings: 0 is none, which it is
            where a name is left out, and 1 leaves nothing to see.
        task: (batch,), the place of each example's task in the mix of training; None without one.

    Example:
        >>> roles = all_carried(["image", "label"], 2).without("label")
        >>> roles.present("label").tolist(), roles.carried("label").tolist()
        ([True, True], [False, False])
    """

    values: Mapping[str, jax.Array]
    encodings: Mapping[str, jax.Array] = dataclasses.field(default_factory=dict)
    levels: Mapping[str, jax.Array] = dataclasses.field(default_factory=dict)
    task: jax.Array | None = None

    def present(self, name: str) -> jax.Array:
        """(batch,) booleans, the examples that have a value of the modality."""
        return self._has(name, Role.PRESENT)

    def carried(self, name: str) -> jax.Array:
        """(batch,) booleans, the examples whose state carries the modality."""
        return self._has(name, Role.CARRIED)

    def known(self, name: str) -> jax.Array:
        """(batch,) booleans, the examples of which the network sees the modality beside z_t."""
        return self._has(name, Role.KNOWN)

    def seen(self, name: str) -> jax.Array:
        """(batch,) booleans, the examples of which it is seen: known, noisy or estimated."""
        return self._has(name, Role.seen())

    def viewed(self, name: str) -> jax.Array:
        """(batch,) booleans, the examples that ask for it and see it under noise."""
        return self._has(name, Role.VIEWED)

    def believed(self, name: str) -> jax.Array:
        """(batch,) booleans, the examples that are to see the model's own draw of it."""
        return self._has(name, Role.BELIEVED)

    def estimated(self, name: str) -> jax.Array:
        """(batch,) booleans, the examples of which the network sees its own estimate."""
        return self._has(name, Role.ESTIMATED)

    def diffused(self, name: str) -> jax.Array:
        """(batch,) booleans, the examples whose z_0 is a secondary's encoding."""
        return self._has(name, Role.DIFFUSED)

    def asked(self, name: str) -> jax.Array:
        """(batch,) booleans, the examples that have the modality and do not know it.

        These are the ones that a loss counts.
        """
        return self.present(name) & ~self.known(name)

    def carries_any(self) -> jax.Array:
        """(batch,) booleans, the examples whose state tells of a modality at all.

        Another state tells nothing: it is zero at t = T, and the heads alone answer.
        """
        return self._any(Role.CARRIED | Role.DIFFUSED)

    def knows_any(self) -> jax.Array:
        """(batch,) booleans, the examples of which the network sees a known modality."""
        return self._any(Role.KNOWN)

    def without(self, name: str) -> "Roles":
        """The same roles, but that no state carries the modality, and no network sees it."""
        value = self._value(name) & ~int(Role.CARRIED | Role.seen())
        return dataclasses.replace(self, values={**self.values, name: value})

    def unseen(self, name: str, rows: jax.Array) -> "Roles":
        """The same roles, but that no network sees the modality in these rows (batch,).

        Example:
            >>> roles = query_roles(["image"], 2, given=["image"], shown=["image"])
            >>> roles.unseen("image", jnp.array([True, False])).seen("image").tolist()
            [False, True]
        """
        value = self._value(name)
        value = jnp.where(rows, value & ~int(Role.seen()), value)
        return dataclasses.replace(self, values={**self.values, name: value})

    def with_diffused(self, name: str) -> "Roles":
        """The same roles, but that a secondary which is carried is diffused.

        Example:
            >>> roles = all_carried(["image", "audio"], 1).with_diffused("audio")
            >>> roles.carried("audio").tolist(), roles.diffused("audio").tolist()
            ([False], [True])
        """
        value = self._value(name)
        moved = value & ~int(Role.CARRIED) | int(Role.DIFFUSED)
        value = jnp.where(self.carried(name), moved, value)
        return dataclasses.replace(self, values={**self.values, name: value})

    def with_estimate(self, name: str, rows: jax.Array, estimate: jax.Array) -> "Roles":
        """The same roles, but that the network sees this estimate (batch, *latent) in these rows.

        Example:
            >>> roles = all_carried(["image"], 2)
            >>> rows, ones = jnp.array([True, False]), jnp.ones((2, 1))
            >>> roles.with_estimate("image", rows, ones).shown("image", ones).tolist()
            [[1.0], [0.0]]
        """
        value = jnp.where(rows, self._value(name) | int(Role.ESTIMATED), self._value(name))
        others = self.encodings.get(name, jnp.zeros_like(estimate))
        levels = dict(self.levels)
        if name in levels:  # An estimate is not noised, whatever a known value would have been.
            levels[name] = jnp.where(rows, 0, levels[name])
        return dataclasses.replace(
            self,
            values={**self.values, name: value},
            encodings={**self.encodings, name: choose_rows(rows, estimate, others)},
            levels=levels,
        )

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

    def shown(self, name: str, like: jax.Array) -> jax.Array:
        """What the network sees of a modality: its encoding where it is seen, else zeros.

        The result has the shape and dtype of `like` (batch, *latent), such as z_t.

        Example:
            >>> roles = query_roles(["label"], 2, given=["label"], shown=["label"])
            >>> roles = dataclasses.replace(roles, encodings={"label": jnp.ones((2, 1))})
            >>> roles.shown("label", jnp.zeros((2, 1))).tolist()
            [[1.0], [1.0]]
            >>> roles.without("label").shown("label", jnp.zeros((2, 1))).tolist()
            [[0.0], [0.0]]
        """
        self._value(name)
        if name not in self.encodings:
            return jnp.zeros_like(like)
        return where_present(self.seen(name), self.encodings[name].astype(like.dtype))

    def clarity(self, name: str, dtype: Any = None) -> jax.Array:
        """How clear the network sees a modality, (batch,): 1 − s/T where it is seen, else 0."""
        clear = self.seen(name).astype(dtype or jnp.zeros(()).dtype)
        return clear * (1 - self.levels[name]).astype(clear.dtype) if name in self.levels else clear

    def _value(self, name: str) -> jax.Array:
        expect_name("roles", name, self.values, none="there are no roles")
        return self.values[name]

    def _has(self, name: str, bit: Role) -> jax.Array:
        return (self._value(name) & int(bit)) != 0

    def _any(self, bits: Role) -> jax.Array:
        masks = [self._has(name, bits) for name in self.values]
        return jnp.any(jnp.stack(masks), axis=0)


def all_carried(names: Iterable[str], num_examples: int) -> Roles:
    """The roles of `num_examples` examples that have and carry all modalities of these names.

    Example:
        >>> roles = all_carried(["image", "label"], 2)
        >>> roles.carried("label").tolist(), roles.known("label").tolist()
        ([True, True], [False, False])
    """
    both = jnp.full((num_examples,), int(Role.PRESENT | Role.CARRIED), jnp.int32)
    return Roles(dict.fromkeys(names, both))


def query_roles(
    names: Iterable[str],
    num_samples: int,
    given: Iterable[str] = (),
    carried: Iterable[str] = (),
    shown: Iterable[str] = (),
) -> Roles:
    """The roles of a query.

    Args:
        names: of all modalities.
        num_samples: how many samples are to be drawn.
        given: the modalities whose values are given, which makes them present.
        carried: those whose encodings, given or estimated, the states carry.
        shown: those that the network is to see.

    Example:
        >>> roles = query_roles(["image", "label"], 2, given=["label"], shown=["label"])
        >>> roles.known("label").tolist(), roles.present("image").tolist()
        ([True, True], [False, False])
    """
    given, carried, shown = set(given), set(carried), set(shown)
    values = {}
    for name in names:
        bits = (Role.PRESENT, given), (Role.CARRIED, carried), (Role.KNOWN, shown)
        role = sum(int(bit) for bit, those in bits if name in those)
        values[name] = jnp.full((num_samples,), role, jnp.int32)
    return Roles(values)


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
