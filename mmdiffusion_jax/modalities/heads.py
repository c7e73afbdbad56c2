"""What the decoder heads share: features → values a pixel, and the diagonal Gaussian."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmdiffusion_jax.modalities.base import Features

_LOG_STD_RANGE = (-7.0, 2.0)


def per_pixel(features: Features, height: int, width: int, channels: int) -> jax.Array:
    """Every cell of the features' grid gives the values of one patch of pixels.

    The features are normalised, scaled and shifted by t, and projected: the standard deviation of a
    pixel falls with the noise by orders of magnitude, which a head without t could not follow. The
    layers belong to the module whose compact method calls.

    Args:
        features: the backbone's, with rows and columns that divide height and width.
        height: of the map of pixels.
        width: of the map of pixels.
        channels: how many values a pixel has.

    Returns:
        (batch, height, width, channels).

    Example:
        >>> class Head(nn.Module):
        ...     @nn.compact
        ...     def __call__(self, features):
        ...         return per_pixel(features, 8, 8, 3)
        >>> features = Features(grid=jnp.zeros((2, 4, 4, 16)), condition=jnp.zeros((2, 16)))
        >>> Head().init_with_output(jax.random.key(0), features)[0].shape
        (2, 8, 8, 3)
    """
    modulation = nn.Dense(2 * features.grid.shape[-1])(nn.silu(features.condition))
    scale, shift = jnp.split(modulation[:, None, None, :], 2, axis=-1)
    grid = nn.LayerNorm()(features.grid) * (1 + scale) + shift
    rows, columns = grid.shape[1:3]
    patch = height // rows, width // columns
    out = nn.Dense(patch[0] * patch[1] * channels)(grid)
    out = out.reshape(-1, rows, columns, *patch, channels).transpose(0, 1, 3, 2, 4, 5)
    return out.reshape(-1, height, width, channels)


def bounded_log_std(out: jax.Array, low: float = _LOG_STD_RANGE[0]) -> jax.Array:
    """A layer's output → log σ between `low` and 2.

    At initialisation it is about −2, and at least 1 above `low`, where gradients would end.

    Example:
        >>> bounded_log_std(jnp.array([-9.0, 0.0, 9.0])).tolist()
        [-7.0, -2.0, 2.0]
        >>> bounded_log_std(jnp.array([-9.0, 0.0, 9.0]), -2.0).tolist()
        [-2.0, -1.0, 2.0]
    """
    return jnp.clip(out + max(-2.0, low + 1.0), low, _LOG_STD_RANGE[1])


def draw_gaussian(key: jax.Array, head: dict[str, jax.Array]) -> jax.Array:
    """Mean + σ ε of a head {"mean", "log_std"}.

    Example:
        >>> head = {"mean": jnp.ones(3), "log_std": jnp.full(3, -jnp.inf)}
        >>> draw_gaussian(jax.random.key(0), head).tolist()
        [1.0, 1.0, 1.0]
    """
    noise = jax.random.normal(key, head["mean"].shape, head["mean"].dtype)
    return head["mean"] + jnp.exp(head["log_std"]) * noise


def pool_gaussians(heads: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """The Gaussian proportional to the geometric mean of several: their precisions average.

    The heads are {"mean", "log_std"}, each (several, …), and the result each (…).

    Example:
        >>> two = {"mean": jnp.array([0.0, 1.0]), "log_std": jnp.zeros(2)}
        >>> float(pool_gaussians(two)["mean"])
        0.5
    """
    precision = jnp.exp(-2 * heads["log_std"])
    mean = jnp.sum(precision * heads["mean"], axis=0) / jnp.sum(precision, axis=0)
    return {"mean": mean, "log_std": -0.5 * jnp.log(jnp.mean(precision, axis=0))}
