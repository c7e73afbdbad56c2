"""Augmentation of training images by black squares."""

import jax
import jax.numpy as jnp


def hide_squares(
    key: jax.Array, images: jax.Array, rate: float, num_squares: int, square_size: int
) -> tuple[jax.Array, jax.Array]:
    """Blackens random squares in a share of the images (DeVries & Taylor 2017, "Cutout").

    Every square lies inside the image, at a place drawn uniformly; squares may overlap.

    Args:
        key: a typed key.
        images: (batch, height, width, channels) uint8.
        rate: the share of images that get squares.
        num_squares: squares an image.
        square_size: their side, in pixels.

    Returns:
        (batch,) float32 of 0 or 1, 1 where an image got squares; and the images.

    Example:
        >>> covered, images = hide_squares(
        ...     jax.random.key(0), jnp.full((2, 8, 8, 1), 9, jnp.uint8), 1.0, 1, 4
        ... )
        >>> covered.tolist(), int((images == 0).sum())
        ([1.0, 1.0], 32)
    """
    size, height, width = images.shape[:3]
    row_key, column_key, rate_key = jax.random.split(key, 3)

    def inside(key: jax.Array, side: int) -> jax.Array:
        start = jax.random.randint(key, (size, num_squares, 1), 0, side - square_size + 1)
        at = jnp.arange(side)
        return (at >= start) & (at < start + square_size)

    rows, columns = inside(row_key, height), inside(column_key, width)
    squares = (rows[:, :, :, None] & columns[:, :, None, :]).any(axis=1)
    covered = jax.random.bernoulli(rate_key, rate, (size,))
    black = (squares & covered[:, None, None])[..., None]
    return covered.astype(jnp.float32), jnp.where(black, 0, images).astype(images.dtype)
