"""The contract of a modality: encoder, decoder head, likelihood, picture and figures."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mmdiffusion_jax import errors
from mmdiffusion_jax.modalities.judging import Measure
from mmdiffusion_jax.model import Features


@dataclasses.dataclass(frozen=True)
class ColumnEncoder:
    """What makes a modality's x of other values in its column, once for all of the data.

    Attributes:
        validate: (what errors call them, values) raises a ValueError where they cannot be encoded.
        encode: values (batch, …) → x (batch, …).
        identity: names what encodes and its parameters; what it has made is kept under this name.
    """

    validate: Callable[[str, np.ndarray], None]
    encode: Callable[[np.ndarray], np.ndarray]
    identity: str


class Modality(nn.Module):
    """One kind of data. A subclass is one file; it fills in what raises NotImplementedError.

    `encode`, `head`, `expected_encoding` and `encoding_variance` may use parameters; the other
    methods are pure. What has a default here is for a modality that is more than its encoder and
    its likelihood: that can be made from another one, that has figures, whose values are classes.

    Attributes:
        latent: the shape of the diffusion space, (height, width, channels).
        is_primary: whether z_0 encodes this modality.
        decoder_fields: of the class: the names of the fields that `encode` does not read.
        figures: of the class: {name: whether higher is better, None for neither} of the figures
            that `measures` and `measures_of_primary` have.
        is_image: of the class: whether x has pixels in 0 … 255, whose features can be compared.
        is_partial_view: of the class: whether x is the primary with a part hidden, so that what is
            generated from it is to be compared with the whole.
        is_embedding: of the class: whether x is what the network of `data.embedder` makes of the
            primary, and is made so where the data lack it.
        is_categorical: of the class: whether `most_likely` decides among classes, so that an update
            of a deployed model may flip it.
    """

    latent: tuple[int, int, int]
    is_primary: bool = False

    decoder_fields: ClassVar[frozenset[str]] = frozenset({"is_primary"})
    figures: ClassVar[Mapping[str, bool | None]] = MappingProxyType({})
    is_image: ClassVar[bool] = False
    is_partial_view: ClassVar[bool] = False
    is_embedding: ClassVar[bool] = False
    is_categorical: ClassVar[bool] = False

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
        return int(np.prod(self.columns[0]))

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

    def column_encoder(self, dtype: np.dtype) -> ColumnEncoder | None:
        """What makes x of the column of this name, where that holds other values of a dtype."""
        del dtype
        return None

    def suspicion(self, highest: float) -> str | None:
        """What a warning says about data that are valid and yet odd, by their highest value."""
        del highest
        return None

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
        """Parameters of p(x | z_t) for the primary, from the estimate of its encoding.

        By default the head's own, to which the estimate adds nothing.
        """
        del encoding
        return head

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

    @property
    def num_labels(self) -> int:
        """How many labels there are, where x is one label of an example; 0 where it is not.

        Labels are given one after the other in an evaluation, are scored one by one, and
        classifiers learn to read them off the modalities that have `shows_labels`.
        """
        return 0

    @property
    def shows_labels(self) -> bool:
        """Whether a classifier may read labels off x, uint8 or floats that it clips to [−1, 1]."""
        return False

    def classes_in(self, x: np.ndarray) -> np.ndarray | None:
        """Which classes each x shows, (n, classes) booleans; None where it shows none."""
        del x
        return None

    def measures(self, given: "Modality") -> Sequence[Measure]:
        """How good values are that were generated from another modality, by the true ones.

        Args:
            given: the other modality.

        Returns:
            Measures of (generated x, true x); none where the other one does not say what x is.
        """
        del given
        return ()

    @property
    def measures_of_primary(self) -> Sequence[Measure]:
        """How well the primary goes with x, given or generated together with it.

        Returns:
            Measures of (generated primary, x).
        """
        return ()

    def readable(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """What a deployed model can take of later data: all of it, unless classes came later.

        Args:
            x: (batch, …), of a successor.

        Returns:
            (x with 0 in place of classes that came later, whether an example has none (batch,)).
        """
        return x, jnp.ones(len(x), bool)

    def check_successor(self, name: str, successor: "Modality") -> None:
        """Checks that another one reads the same data, as an update of a deployed model has to.

        Args:
            name: the modality's.
            successor: in the update.

        Raises:
            ValueError: one of another kind, or of other columns.
        """
        if type(self) is not type(successor) or self.columns != successor.columns:
            raise errors.invalid(
                f"config.modalities.{name}",
                f"{type(successor).__name__} of {successor.columns}",
                f"{type(self).__name__} of {self.columns}, as deployed",
                "give a new kind of data a new name",
            )
