"""The contract of a modality: an encoder, a decoder head, a likelihood, and how to show it."""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import numpy as np


class Features(NamedTuple):
    """What a backbone hands to the decoder heads.

    Attributes:
        grid: (batch, rows, columns, width), the last hidden map; rows and columns divide the
            latent's height and width.
        condition: (batch, width), the embedding of t.
    """

    grid: jax.Array
    condition: jax.Array


class Modality(nn.Module):
    """One kind of data. A subclass is one file and fills in every method.

    `encode`, `head`, `expected_encoding` and `encoding_variance` may use parameters; the other
    methods are pure. Only a modality that can be made from another one has `derived_from` and
    `derive`.

    Attributes:
        latent: the shape of the diffusion space, (height, width, channels).
        is_primary: whether z_0 encodes this modality.
        decoder_fields: of the class: the names of the fields that `encode` does not read.
    """

    latent: tuple[int, int, int]
    is_primary: bool = False

    decoder_fields: ClassVar[frozenset[str]] = frozenset({"is_primary"})

    @property
    def encoder_fields(self) -> dict[str, Any]:
        """What E depends on beside parameters, in JSON's types: all fields but `decoder_fields`.

        Fingerprints of stored latents are taken of it, so a field too few mixes latents that do not
        go together, and a field too many refuses some that do.
        """
        left_out = {"parent", "name", *self.decoder_fields}
        names = (field.name for field in dataclasses.fields(self))
        return {name: getattr(self, name) for name in names if name not in left_out}

    @property
    def num_dims(self) -> int:
        """How many dimensions one example x has."""
        raise NotImplementedError

    @property
    def columns(self) -> tuple[tuple[int, ...], str]:
        """The shape of one example in the data, and its kind: "integer" or "floating"."""
        raise NotImplementedError

    @property
    def is_bounded(self) -> bool:
        """Whether every entry of E(x) lies within [−1, 1], so that an estimate may be kept there.

        Codes of unit RMS do not: their entries go up to the root of their number.
        """
        return False

    @property
    def derived_from(self) -> str | None:
        """The modality whose column it can be made from where the data lack its own, or None."""
        return None

    def derive(self, rng: np.random.Generator, x: np.ndarray) -> np.ndarray:
        """A batch of the column of `derived_from` → this modality's column, on the host.

        Called for every batch anew, so what is random in it differs from epoch to epoch.

        Args:
            rng: the only source of randomness.
            x: (batch, …) of the other column.

        Returns:
            (batch, …) as `columns` says.
        """
        raise NotImplementedError

    def conversion(self, x: np.ndarray) -> str:
        """How a column of another shape or kind becomes what `columns` says.

        Args:
            x: (examples, …), some values of that column.

        Returns:
            The mend, as errors end with it.
        """
        del x
        return "reshape or cast the data, or correct the config"

    def validate(self, name: str, x: np.ndarray) -> None:
        """Checks values of the data on the host.

        Values of examples in which the modality is absent are not among them.

        Raises:
            ValueError: naming the modality, the offending value and the range.
        """
        raise NotImplementedError

    def encode(self, x: jax.Array) -> jax.Array:
        """x (batch, …) in data units → E(x), (batch, *latent)."""
        raise NotImplementedError

    def head(self, features: Features) -> Any:
        """Features of the shared denoiser → parameters of p(x | z_t)."""
        raise NotImplementedError

    def expected_encoding(self, head: Any) -> jax.Array:
        """E[ E(x) ] under p(x | z_t), (batch, *latent)."""
        raise NotImplementedError

    def encoding_variance(self, head: Any) -> jax.Array:
        """Var[ E(x) ] under p(x | z_t), entry by entry, (batch, *latent)."""
        raise NotImplementedError

    def reconstruct(self, encoding: jax.Array, head: Any) -> Any:
        """Parameters of p(x | z_t) for the primary: from the estimate of its encoding."""
        raise NotImplementedError

    def log_prob(self, head: Any, x: jax.Array) -> jax.Array:
        """log p(x | z_t), (batch,) nats."""
        raise NotImplementedError

    def condition_log_prob(self, head: Any, x: jax.Array) -> jax.Array:
        """log p of what x says as a condition, (batch,) nats: all of it, as long as `encode` is.

        A modality whose x carries a target that `encode` does not read leaves the target out.
        """
        return self.log_prob(head, x)

    def pool(self, heads: Any) -> Any:
        """Heads stacked over several t (leading axis) → one, their normalised geometric mean."""
        raise NotImplementedError

    def draw(self, key: jax.Array, head: Any) -> jax.Array:
        """x ~ p(x | z_t), in data units."""
        raise NotImplementedError

    def most_likely(self, head: Any) -> jax.Array:
        """The most likely x, in data units."""
        raise NotImplementedError

    def show(self, x: np.ndarray) -> list[np.ndarray | str]:
        """One picture (height, width, 3) uint8, or one caption, for each example."""
        raise NotImplementedError
