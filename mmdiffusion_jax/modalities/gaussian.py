"""What images, latents and sound share: a diagonal Gaussian with a mean and log σ."""

import jax
import jax.numpy as jnp

from mmdiffusion_jax.modalities.base import Modality
from mmdiffusion_jax.modalities.heads import draw_gaussian, pool_gaussians


class Gaussian(Modality):
    """A modality whose head is {"mean", "log_std"}, each (batch, …) in the units of the mean.

    A subclass adds the encoder, the head, the likelihood and, where the data have other units than
    the mean, `in_data_units`.
    """

    def in_data_units(self, value: jax.Array) -> jax.Array:
        """A value in the units of the mean → x."""
        return value

    def encoding_variance(self, head: dict[str, jax.Array]) -> jax.Array:
        """σ², where the mean is that of the encoding."""
        return jnp.exp(2 * head["log_std"])

    def pool(self, heads: dict[str, jax.Array]) -> dict[str, jax.Array]:
        """The Gaussian proportional to the geometric mean: precisions average."""
        return pool_gaussians(heads)

    def draw(self, key: jax.Array, head: dict[str, jax.Array]) -> jax.Array:
        """Mean + σ ε, in data units."""
        return self.in_data_units(draw_gaussian(key, head))

    def most_likely(self, head: dict[str, jax.Array]) -> jax.Array:
        """The mean, in data units."""
        return self.in_data_units(head["mean"])
