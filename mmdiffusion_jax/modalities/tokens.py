"""Tokens: a short sequence of integers, each written into its own part of the latent."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mmdiffusion_jax import errors, ranges
from mmdiffusion_jax.modalities.base import Features
from mmdiffusion_jax.modalities.categorical import Categorical, check_unknown
from mmdiffusion_jax.modalities.encoders import unit_rms


class Tokens(Categorical):
    """A sequence (length,) of integers 0 … num_classes − 1, such as the words of a caption.

    Every position has its own run of the latent's entries, all of one length. E(x) holds there the
    learned code of the token, normalised to unit RMS. So E is linear in the one-hot sequence, its
    mean and variance are exact, the order of the tokens matters, and every sequence has exactly
    unit RMS over the latent. Entries that are left over stay zero, and the others make up for them.

    Padding is not known: it is encoded to zero and counts nothing in log p. The end of a sequence
    needs a token of its own.

    Attributes:
        num_classes: size of the vocabulary, without padding.
        length: tokens a sequence.
        padding: the integer of positions that are not known, or None.

    Raises:
        ValueError: a padding that is a token, or a sequence so long that a position has fewer than
            two of the latent's entries.

    Example:
        >>> tokens = Tokens(latent=(8, 8, 1), num_classes=50, length=5, padding=-1)
        >>> x = jnp.array([[3, 14, 15, 9, 2]])
        >>> code, _ = tokens.init_with_output(jax.random.key(0), x, method="encode")
        >>> code.shape, round(float((code**2).mean()), 4)
        ((1, 8, 8, 1), 1.0)
    """

    length: int = 1
    padding: int | None = None
    nouns = ("token", "tokens")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_unknown("padding", self.padding, self.num_classes)
        most = int(np.prod(self.latent)) // 2
        ranges.check_whole("length", self.length, 1)
        if self.length > most:
            raise errors.invalid(
                "length",
                self.length,
                f"1 … {most}, two entries of the latent for each token",
                "shorten the sequences, or enlarge the latent",
            )

    def setup(self) -> None:
        """The codes and the head's layers."""
        self.codes = self.param("codes", nn.initializers.normal(1.0), (self.num_classes, self._run))
        self.cells = nn.Dense(self.length)
        self.norm = nn.LayerNorm()
        self.logits = nn.Dense(self.num_classes)

    @property
    def unknown(self) -> int | None:
        """The integer of padding."""
        return self.padding

    @property
    def columns(self) -> tuple[tuple[int, ...], str]:
        """Shape (length,), integers."""
        return (self.length,), "integer"

    def encode(self, x: jax.Array) -> jax.Array:
        """Sequences (batch, length) → (batch, *latent)."""
        known, classes = self.split_unknown(x)
        return self.placed(jnp.where(known[..., None], self.class_codes()[classes], 0))

    def head(self, features: Features) -> jax.Array:
        """→ logits (batch, length, num_classes); every position reads its own mix of the cells."""
        cells = features.grid.reshape(len(features.grid), -1, features.grid.shape[-1])
        mixed = self.cells(cells.swapaxes(1, 2)).swapaxes(1, 2) + features.summary[:, None]
        return self.logits(self.norm(mixed))

    def class_codes(self) -> jax.Array:
        """The code of each token, (num_classes, entries of a position), scaled for the zeros."""
        share = self.length * self._run / np.prod(self.latent)
        return unit_rms(self.codes) * float(share**-0.5)

    def placed(self, codes: jax.Array) -> jax.Array:
        """Codes (batch, length, entries of a position), one after another → (batch, *latent)."""
        flat = codes.reshape(len(codes), -1)
        left_over = int(np.prod(self.latent)) - flat.shape[1]
        return jnp.pad(flat, ((0, 0), (0, left_over))).reshape(-1, *self.latent)

    def show(self, x: np.ndarray) -> list[np.ndarray | str]:
        """The integers as captions, without padding."""
        return [" ".join(str(token) for token in row if token != self.padding) for row in x]

    @property
    def _run(self) -> int:
        return int(np.prod(self.latent)) // self.length
