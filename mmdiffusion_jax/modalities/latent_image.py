"""Images in the latent space of a frozen autoencoder (Rombach et al. 2022), Gaussian there."""

import dataclasses
import functools
import importlib
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mmdiffusion_jax import errors, ranges
from mmdiffusion_jax.modalities.base import ColumnEncoder, Features, Modality
from mmdiffusion_jax.modalities.gaussian import Gaussian
from mmdiffusion_jax.modalities.heads import bounded_log_std, per_pixel
from mmdiffusion_jax.modalities.image import check_pixels
from mmdiffusion_jax.modalities.palettes import channel_colours
from mmdiffusion_jax.model import gaussian_log_prob


@dataclasses.dataclass(frozen=True)
class Autoencoder:
    """A trained autoencoder as two pure functions, its parameters inside them.

    Attributes:
        encode: images (batch, height, width, channels) in [−1, 1] → latents (batch, h, w, c).
        decode: latents → images.
        identity: names the autoencoder and its parameters, such as a file and its digest, and
            tells cached latents apart.
    """

    encode: Callable[[jax.Array], jax.Array]
    decode: Callable[[jax.Array], jax.Array]
    identity: str


@functools.cache
def load_autoencoder(path: str) -> Autoencoder:
    """Imports and calls, once, a function "package.module:function" that returns an `Autoencoder`.

    Raises:
        ValueError: a path of another form, a module or a function that is not there, or one that
            returns anything else.
    """
    module, colon, function = path.partition(":")
    try:
        if not colon:
            raise ImportError("no colon in it")
        autoencoder = getattr(importlib.import_module(module), function)()
    except (ImportError, AttributeError, ValueError) as error:
        raise errors.invalid(
            "autoencoder",
            f"{path!r}, which cannot be imported and called ({error})",
            "package.module:function on the Python path",
            "check the name and PYTHONPATH",
        ) from error
    if not isinstance(autoencoder, Autoencoder):
        raise errors.invalid(
            "autoencoder",
            f"{path!r}, which returns {type(autoencoder).__name__}",
            "an Autoencoder",
            "return modalities.Autoencoder(encode, decode, identity)",
        )
    return autoencoder


class LatentImage(Gaussian):
    """An image by its latent (h, w, c), a float array of the diffusion space's own shape.

    E(x) = (x − shift) · scale; with shift and scale the mean and one over the standard deviation of
    the latents, E(x) has unit variance, as the noise has. The likelihood is a Gaussian density
    of x. For the primary modality its mean is the diffusion's estimate of the encoding; otherwise
    the head gives the mean too.

    Neither training nor sampling runs the autoencoder: the data hold latents (`encode_images` with
    `data.cache_latents` makes them once), samples are latents, `decode` and `show` give pictures.

    Attributes:
        autoencoder: an `Autoencoder`, or in a config "package.module:function" for
            `load_autoencoder`; empty if the latents' pictures are not wanted.
        shift: of the latents.
        scale: of the latents, above 0.

    Raises:
        ValueError: a shift that is not finite, or a scale that is not above 0.

    Example:
        >>> latent = LatentImage(latent=(4, 4, 8), shift=1.0, scale=0.5)
        >>> latent.encode(jnp.full((1, 4, 4, 8), 5.0)).max().item()
        2.0
    """

    autoencoder: str | Autoencoder = ""
    shift: float = 0.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        ranges.check_real("shift", self.shift)
        ranges.check_real("scale", self.scale, 0, ends="()")

    @property
    def columns(self) -> tuple[tuple[int, ...], str]:
        """Shape (h, w, c), floats."""
        return self.latent, "floating"

    @property
    def holds(self) -> bool:
        """Yes."""
        return True

    def conversion(self, x: np.ndarray) -> str:
        """The line of NumPy for as many numbers in another shape, or of another kind."""
        if int(np.prod(x.shape[1:])) == self.num_dims:
            shape = ", ".join(map(str, self.latent))
            return f"store x.reshape(-1, {shape}).astype(np.float32)"
        return super().conversion(x)

    def validate(self, name: str, x: np.ndarray) -> None:
        """Checks that the latents are finite.

        Raises:
            ValueError: naming the modality.
        """
        if not np.isfinite(x).all():
            raise errors.invalid(
                name, "latents that are not finite", "finite numbers", "encode the images anew"
            )

    def column_encoder(self, dtype: np.dtype) -> ColumnEncoder | None:
        """The autoencoder, where the data hold pixels.

        Raises:
            ValueError: pixels, and no autoencoder.
        """
        if not np.issubdtype(dtype, np.integer):
            return None
        return ColumnEncoder(check_pixels, self.encode_images, self.identity)

    def encode_images(self, images: np.ndarray) -> np.ndarray:
        """Images (batch, height, width, channels) in 0 … 255 → latents, as the data holds them.

        Raises:
            ValueError: no autoencoder, or one whose latents have another shape.
        """
        latents = np.asarray(_encode(self._autoencoder().encode, images))
        if latents.shape[1:] != tuple(self.latent):
            raise errors.invalid(
                "autoencoder",
                f"latents of shape {latents.shape[1:]} for images of {images.shape[1:]}",
                f"{tuple(self.latent)}, the diffusion space",
                "correct config.latent or the size of the images",
            )
        return latents

    def decode(self, x: np.ndarray) -> np.ndarray:
        """Latents (batch, h, w, c) → images (batch, height, width, channels) uint8.

        Raises:
            ValueError: no autoencoder.
        """
        return np.asarray(_decode(self._autoencoder().decode, x))

    @property
    def encoder_fields(self) -> dict[str, Any]:
        """With the autoencoder's identity: one of other parameters is another encoder.

        Raises:
            ValueError: an autoencoder that cannot be imported.
        """
        fields = super().encoder_fields
        return fields | {"autoencoder": self.identity if self.autoencoder else ""}

    def check_successor(self, name: str, successor: Modality) -> None:
        """As of any modality, and that the latents are those of the same autoencoder.

        Raises:
            ValueError: another autoencoder, or one on one side alone; as of any modality.
        """
        super().check_successor(name, successor)
        old, new = (one.encoder_fields["autoencoder"] for one in (self, successor))
        if old != new:
            raise errors.invalid(
                f"config.modalities.{name}.autoencoder",
                f"one of identity {new!r}" if new else "none",
                f"that of identity {old!r}, as deployed" if old else "none, as deployed",
                "keep it, or give latents of another autoencoder a new name",
            )

    @property
    def identity(self) -> str:
        """That of the autoencoder.

        Raises:
            ValueError: no autoencoder.
        """
        return self._autoencoder().identity

    def encode(self, x: jax.Array) -> jax.Array:
        """Latents (batch, h, w, c) → (x − shift) · scale, float32."""
        return (x.astype(jnp.float32) - self.shift) * self.scale

    @nn.compact
    def head(self, features: Features) -> dict[str, jax.Array]:
        """→ {"log_std"} (batch, h, w, c), and "mean" where secondary, both of the encoding."""
        height, width, channels = self.latent
        if self.is_primary:
            return {"log_std": bounded_log_std(per_pixel(features, height, width, channels))}
        out = per_pixel(features, height, width, 2 * channels)
        mean, log_std = jnp.split(out, 2, axis=-1)
        return {"mean": mean, "log_std": bounded_log_std(log_std)}

    def expected_encoding(self, head: dict[str, jax.Array]) -> jax.Array:
        """The mean."""
        return head["mean"]

    def reconstruct(self, encoding: jax.Array, head: dict[str, jax.Array]) -> dict[str, jax.Array]:
        """The estimate of the encoding is the mean."""
        return {"mean": encoding, "log_std": head["log_std"]}

    def log_prob(self, head: dict[str, jax.Array], x: jax.Array) -> jax.Array:
        """log density of x, (batch,) nats: log N(E(x)) + dims · log scale."""
        log_prob = gaussian_log_prob(head["mean"], head["log_std"], self.encode(x))
        return log_prob + self.num_dims * float(np.log(self.scale))

    def show(self, x: np.ndarray) -> list[np.ndarray | str]:
        """The decoded pictures; without an autoencoder the encoding's first channels, ±2 wide.

        Pictures have any number of channels, see `channel_colours`.
        """
        if self.autoencoder:
            return list(channel_colours(self.decode(np.asarray(x))))
        # A second channel of a latent is no alpha.
        first = np.asarray(x)[..., : 3 if self.latent[2] > 2 else 1]
        shares = (first - self.shift) * self.scale / 4 + 0.5
        return list(channel_colours(np.round(255 * np.clip(shares, 0, 1))))

    def in_data_units(self, value: jax.Array) -> jax.Array:
        """E⁻¹: value / scale + shift."""
        return value / self.scale + self.shift

    def _autoencoder(self) -> Autoencoder:
        if isinstance(self.autoencoder, Autoencoder):
            return self.autoencoder
        if not self.autoencoder:
            raise errors.invalid(
                "autoencoder",
                "none",
                "one that images and latents go through",
                "set autoencoder='package.module:function', or store latents",
            )
        return load_autoencoder(self.autoencoder)


@functools.partial(jax.jit, static_argnums=0)
def _encode(encode: Callable[[jax.Array], jax.Array], images: jax.Array) -> jax.Array:
    return encode(images.astype(jnp.float32) / 127.5 - 1)


@functools.partial(jax.jit, static_argnums=0)
def _decode(decode: Callable[[jax.Array], jax.Array], latents: jax.Array) -> jax.Array:
    return jnp.round(jnp.clip((decode(latents) + 1) * 127.5, 0, 255)).astype(jnp.uint8)
