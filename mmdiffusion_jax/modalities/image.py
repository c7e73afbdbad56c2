"""Images: 8-bit pixels, encoded as themselves, with a discretised Gaussian likelihood."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mmdiffusion_jax import errors, metrics, ranges
from mmdiffusion_jax.modalities.base import Features, Modality
from mmdiffusion_jax.modalities.gaussian import Gaussian
from mmdiffusion_jax.modalities.heads import bounded_log_std, per_pixel
from mmdiffusion_jax.modalities.judging import Measure, Networks
from mmdiffusion_jax.modalities.palettes import channel_colours
from mmdiffusion_jax.model import discretised_gaussian_log_prob

# A data set without a pixel above it probably has another scale.
_DARK = 64


class Image(Gaussian):
    """An image of the latent's own shape, uint8 in 0 … 255.

    E(x) = x / 127.5 − 1. The likelihood is a Gaussian discretised to `num_levels` evenly spaced
    grey levels. Data with fewer than 256 levels (the 17 of the digits) should set their number, or
    the likelihood is spread over levels that never occur. For the primary modality the mean is the
    diffusion's estimate of the encoding, and the head gives σ alone; otherwise the head gives both.

    Attributes:
        num_levels: how many grey levels the data has, 2 … 256; level i is stored as
            round(i · 255 / (num_levels − 1)).

    Raises:
        ValueError: a number of levels out of its range.

    Example:
        >>> image = Image(latent=(8, 8, 1), is_primary=True, num_levels=17)
        >>> image.encode(jnp.full((1, 8, 8, 1), 255, jnp.uint8)).max().item()
        1.0
    """

    num_levels: int = 256

    decoder_fields = Modality.decoder_fields | {"num_levels"}
    figures: ClassVar[Mapping[str, bool | None]] = MappingProxyType(
        {"psnr": True, "ssim": True, "distance": False, "lpips": False}
    )
    is_image = True

    @property
    def columns(self) -> tuple[tuple[int, ...], str]:
        """Shape (height, width, channels), integers."""
        return self.latent, "integer"

    def __post_init__(self) -> None:
        super().__post_init__()
        ranges.check_whole("num_levels", self.num_levels, 2, 256)

    def conversion(self, x: np.ndarray) -> str:
        """The lines of NumPy for another order of axes, and for pixels on another scale."""
        height, width, channels = self.latent
        if x.shape[1:] == (height, width) and channels == 1:
            mend = "give the images a channel axis by images[..., None]"
        elif x.shape[1:] == (channels, height, width):
            mend = "put the channels last by images.transpose(0, 2, 3, 1)"
        elif x.shape[1:] == tuple(self.latent):
            return pixel_conversion(x, self.num_levels)
        else:
            return super().conversion(x)
        scale = "" if x.dtype == np.uint8 else f", and {pixel_conversion(x, self.num_levels)}"
        return mend + scale

    @property
    def is_bounded(self) -> bool:
        """Yes: pixels are encoded into [−1, 1]."""
        return True

    @property
    def holds(self) -> bool:
        """Yes."""
        return True

    @property
    def shows_labels(self) -> bool:
        """Whether it is the primary, the only image that is judged so."""
        return self.is_primary

    def suspicion(self, highest: float, rms: float = 1.0) -> str | None:
        """Pixels on a smaller scale than 0 … 255."""
        del rms
        if highest >= _DARK:
            return None
        return (
            f"no pixel is above {highest:g} of 255, so all images are almost black. If they have "
            "another scale, set num_levels and scale them as docs/data.md says."
        )

    def measures(self, given: Modality) -> Sequence[Measure]:
        """How near a primary that was restored from a part of it comes to the truth.

        `psnr` and `ssim` are of bytes; an image without an error has the PSNR of rounding alone,
        58.9 dB. `distance` is perceptual, by the maps of the network of `evaluation.features`: a
        small classifier's or EfficientNet's.
        """
        if not (self.is_primary and given.is_partial_view):
            return ()
        return [
            Measure((name,), functools.partial(_mean_distance, distance))
            for name, distance in _DISTANCES.items()
        ]

    def validate(self, name: str, x: np.ndarray) -> None:
        """Checks that the pixels are among the levels round(i · 255 / (num_levels − 1)).

        Raises:
            ValueError: naming the modality, the pixel and how to scale.
        """
        check_pixels(name, x, self.num_levels)

    def encode(self, x: jax.Array) -> jax.Array:
        """Pixels (batch, height, width, channels) in 0 … 255 → [−1, 1] float32."""
        return x.astype(jnp.float32) / 127.5 - 1

    @nn.compact
    def head(self, features: Features) -> dict[str, jax.Array]:
        """→ {"log_std"} of shape (batch, *latent), and "mean" where the image is secondary."""
        names = ("log_std",) if self.is_primary else ("log_std", "mean")
        height, width, channels = self.latent
        out = per_pixel(features, height, width, channels * len(names))
        out = out.reshape(-1, *self.latent, len(names))
        head = {name: out[..., index] for index, name in enumerate(names)}
        return {**head, "log_std": bounded_log_std(head["log_std"])}

    def expected_encoding(self, head: dict[str, jax.Array]) -> jax.Array:
        """The mean, kept within [−1, 1]."""
        return jnp.clip(head["mean"], -1, 1)

    def reconstruct(self, encoding: jax.Array, head: dict[str, jax.Array]) -> dict[str, jax.Array]:
        """The estimate of the encoding, kept within [−1, 1] as the data is, is the mean."""
        return {"mean": jnp.clip(encoding, -1, 1), "log_std": head["log_std"]}

    def log_prob(
        self, head: dict[str, jax.Array], x: jax.Array, counted: jax.Array | None = None
    ) -> jax.Array:
        """log p(x) of the discretised Gaussian, (batch,) nats over `num_levels` levels.

        `counted` are booleans, broadcastable to x, of the values in the sum; left out, all count.
        """
        centres = 2 * self._level(x.astype(jnp.float32) / 255) / (self.num_levels - 1) - 1
        return discretised_gaussian_log_prob(
            head["mean"], head["log_std"], centres, self.num_levels, counted
        )

    def show(self, x: np.ndarray) -> list[np.ndarray | str]:
        """RGB pictures (height, width, 3) uint8 of any number of channels, alpha over white."""
        return list(channel_colours(np.asarray(x)))

    def _level(self, share: jax.Array) -> jax.Array:
        return jnp.round(jnp.clip(share, 0, 1) * (self.num_levels - 1))

    def in_data_units(self, value: jax.Array) -> jax.Array:
        """The nearest level, uint8."""
        # In float32 the product would round some levels to another pixel than on the host.
        pixels = _level_pixels(self.num_levels).astype(np.uint8)
        level = self._level((value + 1) / 2).astype(jnp.int32)
        return jnp.take(pixels, level, mode="clip")


def _perceptual_distance(x: np.ndarray, y: np.ndarray, networks: Networks) -> np.ndarray:
    network = networks.network
    if not isinstance(network, metrics.SmallClassifier | metrics.EfficientNetFeatures):
        raise ValueError("the features are of no network whose maps are compared")
    return metrics.perceptual_distance(network, x, y)


def _lpips(x: np.ndarray, y: np.ndarray, networks: Networks) -> np.ndarray:
    if networks.lpips is None:
        raise ValueError("no weights are named in evaluation.lpips")
    return networks.lpips.distance(x / 127.5 - 1, y / 127.5 - 1)


# Of an error with the variance of rounding to whole numbers, 1/12.
_ROUNDING_PSNR = 10 * math.log10(12 * 255**2)

_DISTANCES: Mapping[str, Callable[[Any, Any, Networks], Any]] = {
    # An image without an error would make the mean infinite.
    "psnr": lambda x, y, _: jnp.minimum(metrics.psnr(x, y, data_range=255.0), _ROUNDING_PSNR),
    "ssim": lambda x, y, _: metrics.ssim(x, y, data_range=255.0),
    "distance": _perceptual_distance,
    "lpips": _lpips,
}


def _mean_distance(
    distance: Callable[[Any, Any, Networks], Any], x: np.ndarray, y: np.ndarray, networks: Networks
) -> float:
    return float(np.mean(distance(x, y, networks)))


def _level_pixels(num_levels: int) -> np.ndarray:
    """The pixel of each level, (num_levels,) integers in 0 … 255."""
    return np.round(np.arange(num_levels) * (255 / (num_levels - 1))).astype(int)


def check_pixels(name: str, x: np.ndarray, num_levels: int = 256) -> None:
    """Checks that integer pixels x are among the levels round(i · 255 / (num_levels − 1)).

    Raises:
        ValueError: naming a pixel that is none of the levels, and how to scale.

    Example:
        >>> check_pixels("digits", np.array([0, 15, 255]), num_levels=18)
        >>> check_pixels("digits", np.array([0, 5, 16]), num_levels=17)
        Traceback (most recent call last):
        ...
        ValueError: `digits`: got the pixel 5 of 0 … 16, expected the 17 levels round(i * 255 / ...
    """
    if not x.size:
        return
    low, high = x.min(), x.max()
    got, expected = f"pixels from {low} to {high}", "pixels in 0 … 255"
    if low >= 0 and high <= 255:
        # Large sets are looked through much faster without a look-up.
        if num_levels == 256:
            return
        off = ~np.isin(x, _level_pixels(num_levels), kind="table")
        if not off.any():
            return
        got = f"the pixel {x[off][0]} of {low} … {high}"
        expected = f"the {num_levels} levels round(i * 255 / {num_levels - 1}) of num_levels"
    raise errors.invalid(name, got, expected, pixel_conversion(x, num_levels))


def pixel_conversion(x: np.ndarray, num_levels: int = 256) -> str:
    """The line of NumPy that brings pixels x on another scale to the levels in 0 … 255.

    The range of the values tells their scale: floats in [0, 1] or [−1, 1], levels 0 …
    num_levels − 1, or integers of 10 to 16 bits.

    Example:
        >>> pixel_conversion(np.array([0.0, 0.3, 1.0]))
        'scale them by np.round(images * 255).astype(np.uint8)'
        >>> pixel_conversion(np.array([0, 40_000], np.uint16))
        'scale them by np.round(images / 65535 * 255).astype(np.uint8)'
    """
    finite = x[np.isfinite(x)]
    if not finite.size or finite.size < x.size:
        return "replace what is not finite, or mark such examples as not present"
    low, high, top = float(finite.min()), float(finite.max()), num_levels - 1
    is_float = x.dtype.kind == "f"
    is_whole = not is_float or bool((finite == np.round(finite)).all())
    widths = [bits for bits in (8, 10, 12, 14, 16) if high < 2**bits]
    if x.dtype.kind == "b" or (is_float and low >= -1 and high <= 1):
        share = "images" if low >= 0 else "(images + 1) / 2"
    elif is_whole and low >= 0 and high <= top and num_levels < 256:
        return f"scale them by np.round(images * (255 / {top})).astype(np.uint8)"
    elif is_whole and low >= 0 and widths:
        share = f"images / {2 ** widths[0] - 1}"
    else:
        return "bring them to 0 … 255 and store them as uint8, or mark such examples as not present"
    pixels = f"np.round({share} * 255).astype(np.uint8)"
    if num_levels == 256:
        return f"scale them by {pixels}"
    levels = f"np.round(np.round({share} * {top}) * (255 / {top})).astype(np.uint8)"
    others = "" if x.dtype == np.uint8 else f" and use {pixels}"
    return f"bring them to these levels by {levels}, or leave num_levels at 256{others}"
