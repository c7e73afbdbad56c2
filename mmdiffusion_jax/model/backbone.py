"""The contract between a backbone and the decoder heads."""

from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp


class Features(NamedTuple):
    """What a backbone hands to the decoder heads.

    Attributes:
        grid: (batch, rows, columns, width), the last hidden map; rows and columns divide the
            latent's height and width.
        condition: (batch, width), the embedding of t and of a context.
        bottleneck: (batch, width), what the smallest map of a U-Net says of an example as a whole,
            or None.

    Example:
        >>> features = Features(jnp.ones((2, 4, 4, 3)), jnp.ones((2, 3)), jnp.ones((2, 3)))
        >>> features.summary[0].tolist(), features.pooled[0].tolist()
        ([2.0, 2.0, 2.0], [3.0, 3.0, 3.0])
    """

    grid: jax.Array
    condition: jax.Array
    bottleneck: jax.Array | None = None

    @property
    def summary(self) -> jax.Array:
        """Condition and bottleneck, (batch, width): what heads of whole examples read."""
        return self.condition if self.bottleneck is None else self.condition + self.bottleneck

    @property
    def pooled(self) -> jax.Array:
        """The mean of the grid over its places, with the summary, (batch, width)."""
        return jnp.mean(self.grid, axis=(1, 2)) + self.summary


class Shown(NamedTuple):
    """What a backbone sees of known modalities beside z_t.

    Attributes:
        maps: (batch, height, width, k · channels), the encodings of k modalities one behind the
            other, zero where a modality is not known.
        summary: (batch, n), what conditions the network as a whole: of each modality whether it is
            known, and how clear its encoding is: 1 without noise, 0 where there is nothing to see;
            of each secondary that may be diffused whether z_0 encodes it; whether what is seen is
            an estimate of the network's own; and the maps, coarse. All zero where nothing is known
            and z_0 is the primary's.

    Example:
        >>> shown = Shown(maps=jnp.zeros((2, 8, 8, 1)), summary=jnp.zeros((2, 18)))
        >>> shown.maps.shape
        (2, 8, 8, 1)
    """

    maps: jax.Array
    summary: jax.Array


class Backbone(Protocol):
    """The shared denoiser of all modalities: one network, whatever its kind."""

    def __call__(
        self, z_t: jax.Array, t: jax.Array, context: jax.Array | None, shown: Shown | None = None
    ) -> tuple[Features, jax.Array]:
        """The features for the heads, and the prediction about z_t.

        Args:
            z_t: (batch, *latent).
            t: (batch,) integers in 0 … T.
            context: (batch, k), further conditioning of each example; None where there is none.
            shown: known modalities; None for a model that shows none. Layers of these inputs have
                no bias, so that zeros change nothing.

        Returns:
            The last hidden map, and (batch, rows, columns, channels); twice the latent's channels
            where the variance is learned.
        """
