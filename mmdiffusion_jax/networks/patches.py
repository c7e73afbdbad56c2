"""Images as sequences of square patches, and back."""

import jax

from mmdiffusion_jax import errors, ranges


def split_patches(image: jax.Array, patch: int) -> jax.Array:
    """(batch, height, width, channels) → (batch, patches, patch² × channels), row by row.

    Example:
        >>> import jax.numpy as jnp
        >>> split_patches(jnp.zeros((1, 4, 6, 3)), 2).shape
        (1, 6, 12)
    """
    _, height, width, channels = image.shape
    rows, columns = height // patch, width // patch
    tokens = image.reshape(-1, rows, patch, columns, patch, channels)
    return tokens.transpose(0, 1, 3, 2, 4, 5).reshape(-1, rows * columns, patch**2 * channels)


def join_patches(tokens: jax.Array, rows: int, columns: int, patch: int) -> jax.Array:
    """(batch, rows × columns, patch² × channels) → (batch, height, width, channels).

    Example:
        >>> import jax.numpy as jnp
        >>> join_patches(jnp.zeros((1, 6, 12)), 2, 3, 2).shape
        (1, 4, 6, 3)
    """
    channels = tokens.shape[-1] // patch**2
    image = tokens.reshape(-1, rows, columns, patch, patch, channels)
    return image.transpose(0, 1, 3, 2, 4, 5).reshape(-1, rows * patch, columns * patch, channels)


def check_patches(latent: tuple[int, int, int], patch_size: int) -> None:
    """Checks that the patches fill the latent.

    Raises:
        ValueError: a patch size that does not divide both sides.
    """
    ranges.check_whole("patch_size", patch_size, 1)
    if latent[0] % patch_size or latent[1] % patch_size:
        raise errors.invalid(
            "patch_size",
            patch_size,
            f"a divisor of the sides {tuple(latent[:2])} of `latent`",
            "change either",
        )
