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
    """Makes x of other values in a modality's column, such as latents of pixels, once and for all.

    Attributes:
        validate: (what errors call them, values) raises a ValueError where they cannot be encoded.
        encode: values (batch, …) → x (batch, …).
        identity: names the encoder and its parameters; the encoded data are kept under it.
    """

    validate: Callable[[str, np.ndarray], None]
    encode: Callable[[np.ndarray], np.ndarray]
    identity: str


class Modality(nn.Module):
    """One kind of data. A subclass is one file; it fills in what raises NotImplementedError.

    `encode`, `head`, `expected_encoding` and `encoding_variance` may use parameters; the other
    methods are pure. Methods with a default are for what only some modalities have: another one
    that they can be made from, figures, or classes. All attributes but the first two belong to the
    class.

    Attributes:
        latent: the shape of the diffusion space, (height, width, channels).
        is_primary: whether z_0 encodes this modality.
        decoder_fields: the names of the fields that `encode` does not read.
        figures: {name: whether higher is better, None for neither} of the figures that `measures`
            and `measures_of_primary` have.
        is_image: whether x has pixels in 0 … 255, whose features can be compared.
        is_partial_view: whether x is the primary with a part hidden, so that what is generated from
            it is to be compared with the whole.
        is_embedding: whether the network of `data.embedder` makes x of the primary, where the data
            lack it.
        drawn: when a joint sample draws it, "before" the primary, "after" it or "never"; see
            `model.ModalityFunctions`.
        is_categorical: whether `most_likely` chooses a class, which an update of a deployed model
            may flip.
    """

    latent: tuple[int, int, int]
    is_primary: bool = False

    decoder_fields: ClassVar[frozenset[str]] = frozenset({"is_primary"})
    figures: ClassVar[Mapping[str, bool | None]] = MappingProxyType({})
    is_image: ClassVar[bool] = False
    is_partial_view: ClassVar[bool] = False
    is_embedding: ClassVar[bool] = False
    is_categorical: ClassVar[bool] = False
    drawn: ClassVar[str] = "after"

    @property
    def encoder_fields(self) -> dict[str, Any]:
        """What E depends on beside parameters, in JSON's types: all fields but `decoder_fields`.

        Stored latents are fingerprinted by it: with a field too few, latents of different encoders
        mix; with one too many, equal encoders count as different.
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
        """Whether every entry of E(x) lies within [−1, 1], so that an estimate may be clipped.

        Codes of unit RMS are not bounded so: an entry reaches the root of the number of entries.
        """
        return False

    @property
    def holds(self) -> bool:
        """Whether E(x) tells all of x, so that x may be diffused and read back."""
        return False

    @property
    def mask_fill(self) -> int | None:
        """The class of the pixels that pad a mask which is made larger; None where x is no mask."""
        return None

    @property
    def derived_from(self) -> str | None:
        """The modality whose column it can be made from where the data lack its own, or None."""
        return None

    def derive(self, rng: np.random.Generator, x: np.ndarray) -> np.ndarray:
        """A batch of the column of `derived_from` → this modality's column, on the host.

        It is called anew for every batch, so its draws from `rng`, the only source of randomness,
        differ from epoch to epoch.
        """
        raise NotImplementedError

    def conversion(self, x: np.ndarray) -> str:
        """How a column x (examples, …) of another shape or kind becomes what `columns` says.

        Errors end with it.
        """
        del x
        return "reshape or cast the data, or correct the config"

    def column_encoder(self, dtype: np.dtype) -> ColumnEncoder | None:
        """The encoder of this modality's column where it holds other values, of a dtype."""
        del dtype
        return None

    def suspicion(self, highest: float, rms: float = 1.0) -> str | None:
        """The warning for data that are valid and yet odd, or None.

        It is told by their highest value and their root mean square.
        """
        del highest, rms
        return None

    def validate(self, name: str, x: np.ndarray) -> None:
        """Checks values of the data on the host, of those examples that have the modality.

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
        """Parameters of p(x | z_t) of what is diffused, from the estimate of its encoding too.

        They are those of `head`, which by default has them from z_t alone.
        """
        del encoding
        return head

    def log_prob(self, head: Any, x: jax.Array) -> jax.Array:
        """log p(x | z_t), (batch,) nats."""
        raise NotImplementedError

    def condition_log_prob(self, head: Any, x: jax.Array) -> jax.Array:
        """log p of that part of x which `encode` reads, (batch,) nats; by default all of x.

        A modality whose x holds a target that `encode` does not read leaves the target out.
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

    def certain(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """(x of `derived_from`, mask) of a partial view x, true where it tells that for certain."""
        raise NotImplementedError

    def latent_mask(self, mask: jax.Array) -> jax.Array:
        """Mask (batch, …) of a part of x → (batch, *latent), the entries of E(x) it determines.

        By default the mask itself, of an encoder that goes entry by entry.
        """
        return mask

    @property
    def num_labels(self) -> int:
        """How many labels there are, where x is one label of an example; 0 where it is not.

        An evaluation gives each label in turn and scores all of them, and its classifiers learn to
        tell the labels from the modalities that have `shows_labels`.
        """
        return 0

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the labels, in the order of their numbers; none where they have none."""
        return ()

    @property
    def shows_labels(self) -> bool:
        """Whether a classifier may tell labels from x, uint8 or floats clipped to [−1, 1]."""
        return False

    def classes_in(self, x: np.ndarray) -> np.ndarray | None:
        """Which classes each x shows, (n, classes) booleans; None where it shows none."""
        del x
        return None

    def measures(self, given: "Modality") -> Sequence[Measure]:
        """Measures of (generated x, true x), where x was generated from the modality `given`.

        There are none where `given` does not determine x.
        """
        del given
        return ()

    @property
    def measures_of_primary(self) -> Sequence[Measure]:
        """Measures of (generated primary, x), where x was given or generated together with it."""
        return ()

    def readable(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """What a deployed model can read of its successor's data x (batch, …).

        Returns:
            (x with 0 in place of classes that came later, whether an example has none (batch,)).
        """
        return x, jnp.ones(len(x), bool)

    def check_successor(self, name: str, successor: "Modality") -> None:
        """Checks that the modality `name` of an update reads the same data as the deployed one.

        Raises:
            ValueError: a successor of another kind, or of other columns.
        """
        if type(self) is not type(successor) or self.columns != successor.columns:
            raise errors.invalid(
                f"config.modalities.{name}",
                f"{type(successor).__name__} of {successor.columns}",
                f"{type(self).__name__} of {self.columns}, as deployed",
                "give a new kind of data a new name",
            )
