"""What labels, masks and tokens share: independent categorical variables with logits."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from mmdiffusion_jax import errors, ranges
from mmdiffusion_jax.modalities.base import Modality
from mmdiffusion_jax.model import categorical_log_prob


class Categorical(Modality):
    """A modality whose head is logits (batch, *dims, num_classes) of integers (batch, *dims).

    A subclass adds the encoder with its table of `class_codes`, the head and the columns.

    Attributes:
        num_classes: how many classes, at least 2.
        nouns: what errors call one of them, and several.
    """

    num_classes: int = 2
    nouns: ClassVar[tuple[str, str]] = ("class", "classes")
    is_categorical = True

    @property
    def unknown(self) -> int | None:
        """The integer that stands for "not known": it is encoded to zero and counts nothing."""
        return None

    def __post_init__(self) -> None:
        super().__post_init__()
        ranges.check_whole("num_classes", self.num_classes, 2)

    def conversion(self, x: np.ndarray) -> str:
        """Class numbers out of floats, or the place of a class out of a row of 0 and 1."""
        shape = self.columns[0]
        if x.dtype.kind == "f" and x.shape[1:] == shape:
            return "cast the classes by x.astype(np.int32), with any class where a mask hides it"
        if x.dtype.kind == "b" and x.shape[1:] == shape:
            return "cast the classes by x.astype(np.int32)"
        if x.shape[1:] == (*shape, self.num_classes):
            return "store x.argmax(-1), the number of the class, in place of a row for each class"
        if x.shape[1:] == (*shape, 1):
            return "store x[..., 0], without its last axis"
        return super().conversion(x)

    def validate(self, name: str, x: np.ndarray) -> None:
        """Checks that the values are classes, or the one that stands for "not known".

        Raises:
            ValueError: naming the modality, the value and the range.
        """
        wrong = (x < 0) | (x >= self.num_classes)
        if self.unknown is not None:
            wrong &= x != self.unknown
        if wrong.any():
            also = "" if self.unknown is None else f", or {self.unknown} where it is not known"
            raise errors.invalid(
                name,
                f"{self.nouns[0]} {x[wrong].flat[0]}",
                f"{self.nouns[1]} in 0 … {self.num_classes - 1}{also}",
                "correct the data, raise num_classes, or mark them as not present",
            )

    def class_codes(self) -> jax.Array:
        """The encoding of each class, (num_classes, *code)."""
        raise NotImplementedError

    def placed(self, codes: jax.Array) -> jax.Array:
        """Codes (batch, *dims, *code) in the latent, (batch, *latent); by default as they are."""
        return codes

    def expected_encoding(self, head: jax.Array) -> jax.Array:
        """Σ_k softmax(logits)_k E(k), (batch, *latent)."""
        return self.placed(jnp.tensordot(jax.nn.softmax(head), self.class_codes(), axes=1))

    def encoding_variance(self, head: jax.Array) -> jax.Array:
        """Σ_k softmax(logits)_k E(k)² − (Σ_k softmax(logits)_k E(k))², (batch, *latent)."""
        square = jnp.tensordot(jax.nn.softmax(head), self.class_codes() ** 2, axes=1)
        return jnp.maximum(self.placed(square) - self.expected_encoding(head) ** 2, 0)

    def log_prob(self, head: jax.Array, x: jax.Array) -> jax.Array:
        """log p(x), (batch,) nats over the values that are known."""
        known, classes = self.split_unknown(x)
        return categorical_log_prob(head, classes, known)

    def split_unknown(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """x → (whether each value is known, the classes, with 0 where it is not)."""
        if jnp.issubdtype(x.dtype, jnp.unsignedinteger):  # they cannot be compared with −1
            x = x.astype(jnp.int32)
        known = jnp.full(x.shape, True) if self.unknown is None else x != self.unknown
        return known, jnp.where(known, x, 0)

    def pool(self, heads: jax.Array) -> jax.Array:
        """Mean of the log-probabilities over the leading axis."""
        return jnp.mean(jax.nn.log_softmax(heads), axis=0)

    def draw(self, key: jax.Array, head: jax.Array) -> jax.Array:
        """A draw, (batch, *dims) int32."""
        return jax.random.categorical(key, head).astype(jnp.int32)

    def most_likely(self, head: jax.Array) -> jax.Array:
        """The class of the highest probability, (batch, *dims) int32."""
        return jnp.argmax(head, axis=-1).astype(jnp.int32)

    def readable(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """x with 0 in place of later classes, and which examples have none of them."""
        is_known, classes = self.split_unknown(x)
        # A successor's mark for "not known" is no class here, and may be negative.
        fits = ~is_known | ((classes >= 0) & (classes < self.num_classes))
        return jnp.where(fits, x, jnp.zeros_like(x)), fits.reshape(len(x), -1).all(axis=1)

    def check_successor(self, name: str, successor: Modality) -> None:
        """As of any modality, and that no class is gone and no known value becomes unknown.

        Raises:
            ValueError: fewer classes, another integer for "not known", one of another kind, or of
                other columns.
        """
        if isinstance(successor, Categorical) and successor.num_classes < self.num_classes:
            raise errors.invalid(
                f"config.modalities.{name}",
                f"{successor.num_classes} classes",
                f"the {self.num_classes} that are deployed, or more",
                "add classes at the end and keep the others",
            )
        super().check_successor(name, successor)
        theirs = successor.unknown if isinstance(successor, Categorical) else None
        if self.unknown is not None and theirs != self.unknown:
            raise errors.invalid(
                f"config.modalities.{name}",
                f"{theirs} for {self.nouns[1]} that are not known",
                f"{self.unknown}, as deployed",
                "mark what is not known by the same integer in the data and in both models",
            )


def check_unknown(argument: str, unknown: int | None, num_classes: int) -> None:
    """Checks the field that sets the integer for "not known".

    Raises:
        ValueError: a class among 0 … num_classes − 1, or no integer.
    """
    if unknown is None:
        return
    ranges.check_whole(argument, unknown, -ranges.INT32)
    if 0 <= unknown < num_classes:
        raise errors.invalid(
            argument,
            unknown,
            f"an integer outside the classes 0 … {num_classes - 1}",
            f"choose another, or leave it out of num_classes if {unknown} is the last",
        )
