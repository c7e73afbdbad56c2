"""A perceptual distance by the feature maps of a network."""

from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from mmdiffusion_jax import errors
from mmdiffusion_jax.metrics.features.batches import in_batches

_EPSILON = 1e-10


class FeatureMaps(Protocol):
    """A network with maps to compare, such as `SmallClassifier` or `EfficientNetFeatures`."""

    def feature_maps(self, images: np.ndarray) -> list[np.ndarray]:
        """Images (n, …) → maps (n, height, width, channels), layer by layer."""


def unit_difference(x: jax.Array, y: jax.Array) -> jax.Array:
    """Squared difference of maps that are normalised over channels (Zhang et al. 2018, eq. 1).

    x, y and the squares have the shape (n, height, width, channels); the sum of the squares over
    channels is 2 − 2 cos.

    Example:
        >>> x, y = jnp.array([[[[3.0, 0.0]]]]), jnp.array([[[[0.0, 5.0]]]])
        >>> unit_difference(x, y).tolist()
        [[[[1.0, 1.0]]]]
    """

    def unit(maps: jax.Array) -> jax.Array:
        norm = jnp.sqrt(jnp.square(maps).sum(axis=-1, keepdims=True))
        return maps / (norm + _EPSILON)

    return jnp.square(unit(x) - unit(y))


def perceptual_distance(network: FeatureMaps, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Distance of image pairs in the maps of a network, without learned weights.

    d = mean over layers, mean over places of ‖x̂ − ŷ‖², with maps x̂ and ŷ of unit length over
    channels. It has the form of LPIPS but neither its weights nor its backbone, so the figures
    differ: report it with the network's `identity`.

    Args:
        network: a `SmallClassifier`, `EfficientNetFeatures`, or another with `feature_maps`.
        x: (n, …) images as the network takes them.
        y: what they are compared with, of the same shape.

    Returns:
        (n,), in [0, 4], and in [0, 2] where maps are not negative, as those of `SmallClassifier`.

    Raises:
        ValueError: different shapes, or images the network does not take.

    Example:
        >>> class Pixels:
        ...     def feature_maps(self, images):
        ...         return [images]
        >>> x, y = np.array([[[[3.0, 0.0]]]]), np.array([[[[0.0, 5.0]]]])
        >>> perceptual_distance(Pixels(), x, y).tolist()
        [2.0]
    """
    if np.shape(x) != np.shape(y):
        raise errors.invalid(
            "y", f"shape {np.shape(y)}", f"{np.shape(x)}, as x has", "pass pairs of images"
        )

    def distance(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        pairs = zip(network.feature_maps(x), network.feature_maps(y))
        return np.mean([_mean_difference(a, b) for a, b in pairs], axis=0)

    return in_batches(distance, np.asarray(x), np.asarray(y))


@jax.jit
def _mean_difference(x: jax.Array, y: jax.Array) -> jax.Array:
    return unit_difference(x, y).sum(axis=-1).mean(axis=(1, 2))
