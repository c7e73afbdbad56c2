"""Labels: one class of several, encoded by a learned table, with a categorical likelihood."""

from collections.abc import Sequence
from types import MappingProxyType

import flax.linen as nn
import jax
import numpy as np

from mmdiffusion_jax import errors, metrics
from mmdiffusion_jax.modalities.base import Features, Modality
from mmdiffusion_jax.modalities.categorical import Categorical
from mmdiffusion_jax.modalities.encoders import (
    check_grid,
    coarse_shape,
    enlarge,
    initial_codes,
    unit_rms,
)
from mmdiffusion_jax.modalities.judging import Measure


class Label(Categorical):
    """A class index in 0 … num_classes − 1.

    E(k) is row k of a learned table, normalised to unit root mean square over the latent, so that
    the modality weight alone sets its strength. Of a row of one number that is the sign: two
    classes begin at −1 and 1, and more need a larger grid or more channels.

    Attributes:
        num_classes: how many classes, at least 2.
        grid: (rows, columns) of the table's rows, enlarged linearly to the latent. Left out, they
            have the latent's own, and E(k) looks like noise; U-Nets learn faster from a coarse one.
        class_names: of the classes in the order of their numbers, for captions and commands; left
            out, numbers stand for themselves.

    Raises:
        ValueError: a grid larger than the latent, or of one number for more than two classes;
            another number of names than of classes.

    Example:
        >>> import jax.numpy as jnp
        >>> label = Label(latent=(8, 8, 1), num_classes=10)
        >>> table = label.init(jax.random.key(0), jnp.arange(10), method="encode")
        >>> code = label.apply(table, jnp.array([3]), method="encode")
        >>> round(float((code**2).mean()), 4)
        1.0
    """

    grid: tuple[int, int] | None = None
    class_names: tuple[str, ...] = ()

    decoder_fields = Categorical.decoder_fields | {"class_names"}
    nouns = ("label", "labels")
    figures = MappingProxyType({"accuracy": True})
    drawn = "before"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_grid(self.grid, self.latent, least=1 if self.num_classes == 2 else 2)
        names = self.class_names
        if names and not len(set(names)) == len(names) == self.num_classes:
            raise errors.invalid(
                "class_names",
                f"{len(names)} names, {len(set(names))} of them different",
                f"{self.num_classes} different ones, or none",
                "name each class once",
            )

    def setup(self) -> None:
        """The table and the head's layers."""
        shape = (self.num_classes, *coarse_shape(self.grid, self.latent))
        self.table = self.param("table", initial_codes, shape)
        self.norm = nn.LayerNorm()
        self.logits = nn.Dense(self.num_classes)

    @property
    def columns(self) -> tuple[tuple[int, ...], str]:
        """A scalar integer."""
        return (), "integer"

    @property
    def num_labels(self) -> int:
        """All classes."""
        return self.num_classes

    def check_successor(self, name: str, successor: Modality) -> None:
        """As of any classes, and that classes keep their numbers where both have names.

        Raises:
            ValueError: as of any classes, or another name in the place of a deployed one.
        """
        super().check_successor(name, successor)
        if not successor.class_names:
            return
        pairs = zip(self.class_names, successor.class_names, strict=False)
        for number, (old, new) in enumerate(pairs):
            if new != old:
                raise errors.invalid(
                    f"config.modalities.{name}.class_names",
                    f"{new!r} for class {number}",
                    f"{old!r}, as deployed",
                    "add classes at the end, and keep the numbers and names of the others",
                )

    def measures(self, given: Modality) -> Sequence[Measure]:
        """The share of right labels."""
        del given
        return (Measure(("accuracy",), lambda x, truth, _: metrics.agreement(x, truth)),)

    def encode(self, x: jax.Array) -> jax.Array:
        """Labels (batch,) → (batch, *latent), unit RMS each."""
        return self.class_codes()[x]

    def head(self, features: Features) -> jax.Array:
        """→ logits (batch, num_classes) from the pooled features."""
        return self.logits(self.norm(features.pooled))

    def class_codes(self) -> jax.Array:
        """The table, enlarged, with unit RMS in each row: (num_classes, *latent)."""
        return unit_rms(enlarge(self.table, self.latent), num_axes=3)

    def show(self, x: np.ndarray) -> list[np.ndarray | str]:
        """The classes as captions, by their names where they have any."""
        numbers = map(int, np.asarray(x))
        return [self.class_names[k] if self.class_names else str(k) for k in numbers]
