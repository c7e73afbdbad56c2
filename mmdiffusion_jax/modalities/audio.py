"""Audio: a log-mel spectrogram, encoded by the shape of its spectra, with Gaussian values."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mmdiffusion_jax import errors, ranges
from mmdiffusion_jax.modalities.base import Features
from mmdiffusion_jax.modalities.encoders import check_grid, coarse_shape, unit_rms, unit_rms_moments
from mmdiffusion_jax.modalities.gaussian import Gaussian
from mmdiffusion_jax.modalities.heads import bounded_log_std, per_pixel
from mmdiffusion_jax.modalities.palettes import value_colours
from mmdiffusion_jax.model import gaussian_log_prob

# 5.4 dB on a scale of 80 dB.
_LOWEST_LOG_STD = -2.0
# What stays of a frame's mean over the bands: enough to tell loud from faint.
_LEVEL = 0.1


ENCODERS = ("shape", "values")
"""What an encoding tells of a spectrogram: the shape of its spectra, or its values."""


class Audio(Gaussian):
    """A log-mel spectrogram (frames, mels) of floats in −1 … 1, as `data.audio.log_mel` makes it.

    By default E(x) = u / rms(u) with u = Aᵀ y B, where y are the values above silence, x + 1, less
    nine tenths of each frame's mean over the bands. A and B interpolate linearly: time to the
    latent's rows, frequency to its columns and, within a column, its channels. Nothing is learned.
    Unit RMS lets the modality weight alone set the strength; E of silence is 0.

    Sounds of equal length are loud and silent at much the same moments and differ in the shape of
    their spectra. A learned map, and more so a bias, would come to encode what all sounds share, as
    an encoding with little information is easy to estimate.

    With the encoder "values" E(x) = x, frames along the rows of the latent and bands along its
    columns and channels. Such a spectrogram can be diffused, and so be drawn; as a drift it hides
    more of an image than it tells.

    p(x | z_t) is a diagonal Gaussian with σ of at least e⁻². Silence is −1 exactly: a narrower σ
    would make the loss one of silence, and little of the sound. The mean and the variance of E(x)
    are those of u, which are exact, over the root mean square of u (`encoders.unit_rms_moments`).

    Attributes:
        frames: steps in time.
        mels: bands of frequency, low to high.
        grid: (rows, columns) that A and B interpolate to first, enlarged linearly to the latent's
            from there. Left out, they are the latent's own.
        encoder: a name in `ENCODERS`.

    Raises:
        ValueError: no frame, no band, or a grid larger than the latent or of one number; an unknown
            encoder, or "values" with a grid, or of another number than the latent has.

    Example:
        >>> audio = Audio(latent=(8, 8, 1), frames=32, mels=16)
        >>> x = jax.random.uniform(jax.random.key(0), (1, 32, 16), minval=-1)
        >>> code, _ = audio.init_with_output(jax.random.key(0), x, method="encode")
        >>> code.shape, round(float((code**2).mean()), 4)
        ((1, 8, 8, 1), 1.0)
    """

    frames: int = 32
    mels: int = 32
    grid: tuple[int, int] | None = None
    encoder: str = "shape"

    def __post_init__(self) -> None:
        super().__post_init__()
        ranges.check_whole("frames", self.frames, 1)
        ranges.check_whole("mels", self.mels, 1)
        check_grid(self.grid, self.latent, least=1 if self.holds else 2)
        ranges.check_one_of("encoder", self.encoder, ENCODERS)
        rows, columns, channels = self.latent
        fits = (rows, columns * channels) == (self.frames, self.mels)
        if self.encoder == "values" and (self.grid is not None or not fits):
            raise errors.invalid(
                "encoder",
                f"'values' for ({self.frames}, {self.mels}) in {self.latent} and grid {self.grid}",
                f"({rows}, {columns * channels}) frames and mels, and no grid",
                "change the latent or the spectrogram, or leave the encoder at 'shape'",
            )

    def setup(self) -> None:
        """The fixed maps of time and of frequency."""
        height, width, channels = self.latent
        rows, columns, _ = coarse_shape(self.grid, self.latent)
        self.time = _interpolation(self.frames, rows) @ _interpolation(rows, height)
        bands = _interpolation(self.mels, columns * channels)
        bands = bands.reshape(self.mels, columns, channels)
        bands = jnp.einsum("mkc,kw->mwc", bands, _interpolation(columns, width))
        # Taking off the mean of all bands is the same as taking it off the weights.
        self.frequency = bands - (1 - _LEVEL) * bands.mean(0)

    @property
    def columns(self) -> tuple[tuple[int, ...], str]:
        """Shape (frames, mels), floats."""
        return (self.frames, self.mels), "floating"

    @property
    def encoder_fields(self) -> dict[str, Any]:
        """As of any modality; models from before there was a choice of encoders have none."""
        fields = super().encoder_fields
        if self.encoder == "shape":
            del fields["encoder"]
        return fields

    @property
    def holds(self) -> bool:
        """Whether the encoding is the values."""
        return self.encoder == "values"

    @property
    def is_bounded(self) -> bool:
        """Whether the encoding is the values, in −1 … 1."""
        return self.holds

    def latent_mask(self, mask: jax.Array) -> jax.Array:
        """Mask (batch, frames, mels) → (batch, *latent).

        Raises:
            ValueError: an encoding of which every entry depends on many values.
        """
        if not self.holds:
            raise errors.invalid(
                "mask", "a part of a spectrogram", "an encoder of 'values'", "leave it out"
            )
        return jnp.broadcast_to(mask, (len(mask), self.frames, self.mels)).reshape(-1, *self.latent)

    def validate(self, name: str, x: np.ndarray) -> None:
        """Checks that the values lie within −1 … 1, with some room for draws.

        Raises:
            ValueError: naming the modality and the value.
        """
        wrong = ~(np.abs(x) <= 2)
        if wrong.any():
            raise errors.invalid(
                name,
                f"the value {x[wrong].flat[0]}",
                "a log-mel spectrogram in −1 … 1, or −2 … 2 where it is drawn",
                "make it with data.audio.log_mel",
            )

    @property
    def shows_labels(self) -> bool:
        """Yes: a classifier takes a spectrogram as a picture."""
        return True

    def encode(self, x: jax.Array) -> jax.Array:
        """Spectrograms (batch, frames, mels) → (batch, *latent); of shapes with unit RMS each."""
        if self.holds:
            return x.reshape(-1, *self.latent)
        return unit_rms(_map(x + 1, self.time, self.frequency), num_axes=3)

    @nn.compact
    def head(self, features: Features) -> dict[str, jax.Array]:
        """→ {"mean", "log_std"} of shape (batch, frames, mels).

        Every cell of the grid gives a whole number of values; the map of them is resized where
        frames or bands are no multiple of the grid.
        """
        rows, columns = features.grid.shape[1:3]
        height, width = -(-self.frames // rows) * rows, -(-self.mels // columns) * columns
        out = per_pixel(features, height, width, 2)
        if (height, width) != (self.frames, self.mels):
            out = jax.image.resize(out, (len(out), self.frames, self.mels, 2), "linear")
        return {"mean": out[..., 0], "log_std": bounded_log_std(out[..., 1], _LOWEST_LOG_STD)}

    def expected_encoding(self, head: dict[str, jax.Array]) -> jax.Array:
        """≈ E[u] / sqrt(mean E[u²]), (batch, *latent)."""
        return self._moments(head)[0]

    def encoding_variance(self, head: dict[str, jax.Array]) -> jax.Array:
        """≈ Var[u] / mean E[u²], (batch, *latent)."""
        return self._moments(head)[1]

    def reconstruct(self, encoding: jax.Array, head: dict[str, jax.Array]) -> dict[str, jax.Array]:
        """The estimate of the encoding is the mean, where that holds x; else the head's."""
        if not self.holds:
            return head
        return {**head, "mean": encoding.reshape(head["mean"].shape)}

    def log_prob(self, head: dict[str, jax.Array], x: jax.Array) -> jax.Array:
        """log density, (batch,) nats."""
        return gaussian_log_prob(head["mean"], head["log_std"], x)

    def show(self, x: np.ndarray) -> list[np.ndarray | str]:
        """Pictures (mels, frames, 3) uint8: time to the right, frequency upward, loud is yellow."""
        return list(value_colours(np.asarray(x).swapaxes(1, 2)[:, ::-1]))

    def _moments(self, head: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
        if self.holds:
            variance = jnp.exp(2 * head["log_std"])
            return head["mean"].reshape(-1, *self.latent), variance.reshape(-1, *self.latent)
        mean = _map(head["mean"] + 1, self.time, self.frequency)
        variance = _map(jnp.exp(2 * head["log_std"]), self.time**2, self.frequency**2)
        return unit_rms_moments(mean, variance)


def _interpolation(size: int, to: int) -> jax.Array:
    """(size, to): the weights of a linear resizing, with antialiasing where it shrinks."""
    return jax.image.resize(jnp.eye(size), (size, to), "linear")


def _map(x: jax.Array, time: jax.Array, frequency: jax.Array) -> jax.Array:
    """(batch, frames, mels) → (batch, height, width, channels)."""
    return jnp.einsum("bfm,fh,mwc->bhwc", x, time, frequency)
