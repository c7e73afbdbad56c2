"""Images: 8-bit pixels, encoded as themselves, with a discretised Gaussian likelihood."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mmdiffusion_jax import errors
from mmdiffusion_jax.modalities.base import Features, Modality
from mmdiffusion_jax.modalities.heads import bounded_log_std, per_pixel, pool_gaussians
from mmdiffusion_jax.modalities.palettes import channel_colours
from mmdiffusion_jax.process import discretised_gaussian_log_prob


class Image(Modality):
    """An image of the latent's own shape, uint8 in 0 … 255.

    E(x) = x / 127.5 − 1. The likelihood is a Gaussian discretised to `num_levels` evenly spaced
    grey levels; data with fewer than 256 levels (the 17 of the digits) should say so, or its
    likelihood is spread over levels that never occur.

    As the primary modality the mean is the process' own estimate of the encoding and the head
    gives the standard deviation alone; otherwise the head gives both.

    Attributes:
        num_levels: how many grey levels the data has, 2 … 256.

    Example:
        >>> image = Image(latent=(8, 8, 1), is_primary=True, num_levels=17)
        >>> image.encode(jnp.full((1, 8, 8, 1), 255, jnp.uint8)).max().item()
        1.0
    """

    num_levels: int = 256

    decoder_fields = Modality.decoder_fields | {"num_levels"}

    @property
    def num_dims(self) -> int:
        """Height × width × channels."""
        return int(np.prod(self.latent))

    @property
    def columns(self) -> tuple[tuple[int, ...], str]:
        """Shape (height, width, channels), integers."""
        return self.latent, "integer"

    def validate(self, name: str, x: np.ndarray) -> None:
        """Checks that the pixels lie in 0 … 255.

        Raises:
            ValueError: naming the modality and the pixel out of range.
        """
        if x.size and (x.min() < 0 or x.max() > 255):
            raise ValueError(
                errors.message(
                    name,
                    f"pixels from {x.min()} to {x.max()}",
                    "pixels in 0 … 255",
                    "store images as uint8",
                )
            )

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

    def encoding_variance(self, head: dict[str, jax.Array]) -> jax.Array:
        """The square of the standard deviation."""
        return jnp.exp(2 * head["log_std"])

    def reconstruct(self, encoding: jax.Array, head: dict[str, jax.Array]) -> dict[str, jax.Array]:
        """The estimate of the encoding, kept within [−1, 1] as the data is, is the mean."""
        return {"mean": jnp.clip(encoding, -1, 1), "log_std": head["log_std"]}

    def log_prob(
        self, head: dict[str, jax.Array], x: jax.Array, counted: jax.Array | None = None
    ) -> jax.Array:
        """log p(x) of the discretised Gaussian, (batch,) nats over `num_levels` levels.

        Args:
            head: its parameters.
            x: (batch, *latent).
            counted: booleans, broadcastable to x, the values in the sum; left out, all of them.
        """
        centres = 2 * self._level(x.astype(jnp.float32) / 255) / (self.num_levels - 1) - 1
        return discretised_gaussian_log_prob(
            head["mean"], head["log_std"], centres, self.num_levels, counted
        )

    def pool(self, heads: dict[str, jax.Array]) -> dict[str, jax.Array]:
        """The Gaussian proportional to the geometric mean: precisions average."""
        return pool_gaussians(heads)

    def draw(self, key: jax.Array, head: dict[str, jax.Array]) -> jax.Array:
        """A draw, rounded to the nearest level: (batch, *latent) uint8."""
        noise = jax.random.normal(key, head["mean"].shape, head["mean"].dtype)
        return self._pixels(head["mean"] + jnp.exp(head["log_std"]) * noise)

    def most_likely(self, head: dict[str, jax.Array]) -> jax.Array:
        """The level nearest the mean: (batch, *latent) uint8."""
        return self._pixels(head["mean"])

    def show(self, x: np.ndarray) -> list[np.ndarray | str]:
        """RGB pictures (height, width, 3) uint8 of any number of channels, alpha over white."""
        return list(channel_colours(np.asarray(x)))

    def _level(self, share: jax.Array) -> jax.Array:
        return jnp.round(jnp.clip(share, 0, 1) * (self.num_levels - 1))

    def _pixels(self, value: jax.Array) -> jax.Array:
        level = self._level((value + 1) / 2)
        return jnp.round(level * (255 / (self.num_levels - 1))).astype(jnp.uint8)
