"""Segmentation masks: a class a pixel, encoded by a learned colour, with categorical pixels."""

from collections.abc import Sequence
from types import MappingProxyType

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mmdiffusion_jax import errors, metrics, ranges
from mmdiffusion_jax.modalities.base import Features, Modality
from mmdiffusion_jax.modalities.categorical import Categorical, check_unknown
from mmdiffusion_jax.modalities.encoders import initial_codes, unit_rms
from mmdiffusion_jax.modalities.heads import per_pixel
from mmdiffusion_jax.modalities.judging import Measure, Networks
from mmdiffusion_jax.modalities.palettes import PALETTES, class_colours


class Segmentation(Categorical):
    """A mask (height, width) of integers 0 … num_classes − 1, of the latent's height and width.

    E(x)[i, j] is the learned code of class x[i, j], the latent's channels long and of unit root
    mean square, so that every whole mask has unit RMS and the modality weight alone sets its
    strength. A void pixel is not known: it is encoded to zero and counts nothing in log p. In a
    latent of one channel the codes of two classes are −1 and 1.

    Attributes:
        num_classes: how many classes, without void.
        void: the integer of pixels of no class, or None where every pixel has one.
        palette: how masks are shown, a name in `palettes.PALETTES`: "tab", "camvid" or
            "cityscapes"; void is black.

    Raises:
        ValueError: an unknown palette, a void that is a class, or a latent of one channel for
            more than two classes, whose codes of unit RMS could only be −1 and 1.

    Example:
        >>> mask = Segmentation(latent=(8, 8, 3), num_classes=11, void=11)
        >>> params = mask.init(jax.random.key(0), jnp.zeros((1, 8, 8), jnp.int32), method="encode")
        >>> code = mask.apply(params, jnp.full((1, 8, 8), 4), method="encode")
        >>> code.shape, round(float((code**2).mean()), 4)
        ((1, 8, 8, 3), 1.0)
    """

    void: int | None = None
    palette: str = "tab"

    decoder_fields = Categorical.decoder_fields | {"palette"}
    figures = MappingProxyType({"iou": True, "pixel_accuracy": True})

    def __post_init__(self) -> None:
        super().__post_init__()
        ranges.check_one_of("palette", self.palette, PALETTES)
        check_unknown("void", self.void, self.num_classes)
        if self.latent[2] == 1 and self.num_classes > 2:
            raise errors.invalid(
                "num_classes",
                self.num_classes,
                "at most 2 in a latent of one channel",
                "give the latent more channels",
            )

    def setup(self) -> None:
        """The codes."""
        self.codes = self.param("codes", initial_codes, (self.num_classes, self.latent[2]))

    @property
    def holds(self) -> bool:
        """Yes: the head reads the classes off their codes, and void is none."""
        return True

    @property
    def unknown(self) -> int | None:
        """The integer of void."""
        return self.void

    @property
    def mask_fill(self) -> int:
        """Void, or class 0 where there is none."""
        return self.void or 0

    def classes_in(self, x: np.ndarray) -> np.ndarray | None:
        """Which classes have a pixel, (n, num_classes) booleans."""
        pixels = x.reshape(len(x), -1)
        return np.stack([(pixels == k).any(axis=1) for k in range(self.num_classes)], axis=1)

    def measures(self, given: Modality) -> Sequence[Measure]:
        """Mean intersection over union of the classes, and the share of right pixels; no void."""
        del given

        def overlap(x: np.ndarray, truth: np.ndarray, _: Networks) -> tuple[float, float]:
            counts = metrics.ConfusionStatistics.empty(self.num_classes)
            counts = counts.update(truth, x, void=self.void)
            return counts.compute(), counts.pixel_accuracy()

        return (Measure(("iou", "pixel_accuracy"), overlap),)

    @property
    def columns(self) -> tuple[tuple[int, ...], str]:
        """Shape (height, width), integers."""
        return self.latent[:2], "integer"

    def encode(self, x: jax.Array) -> jax.Array:
        """Masks (batch, height, width) → (batch, *latent)."""
        known, classes = self.split_unknown(x)
        return jnp.where(known[..., None], self.class_codes()[classes], 0)

    def latent_mask(self, mask: jax.Array) -> jax.Array:
        """Mask (batch, height, width) → (batch, *latent): all channels of the pixels.

        What is void in the values that it comes with stays void, encoded to zero as in training;
        to have it drawn, leave it out of the mask by `mask & (values != void)`.
        """
        return jnp.broadcast_to(mask[..., None], (len(mask), *self.latent))

    def class_codes(self) -> jax.Array:
        """The colours, with unit RMS each: (num_classes, channels)."""
        return unit_rms(self.codes)

    @nn.compact
    def head(self, features: Features) -> jax.Array:
        """→ logits (batch, height, width, num_classes)."""
        return per_pixel(features, *self.latent[:2], self.num_classes)

    def show(self, x: np.ndarray) -> list[np.ndarray | str]:
        """Pictures (height, width, 3) uint8 in the palette's colours."""
        return list(class_colours(self.palette, np.asarray(x), self.void))
