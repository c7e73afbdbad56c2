"""Fixed embeddings of times and of positions in a grid.

Sines and cosines of them (Vaswani et al. 2017, section 3.5), and rotations of queries and keys by
angles that are proportional to them (Su et al. 2021; in two dimensions Heo et al. 2024).
"""

import jax
import jax.numpy as jnp
import numpy as np

_PERIOD = 10000.0
_ROTARY_PERIOD = 100.0


def time_embedding(
    t: jax.Array, num_steps: int, width: int, time_scale: float = 1000.0
) -> jax.Array:
    """cos and sin of `time_scale` · t/T at geometric frequencies 10000^(−i / (width/2)).

    t (batch,) in 0 … T, with T = `num_steps`, becomes (batch, width), for an even width: the
    cosines, then the sines. `time_scale` is the angle of the highest frequency at t = T.

    Example:
        >>> time_embedding(jnp.array([0]), num_steps=10, width=4).tolist()
        [[1.0, 1.0, 0.0, 0.0]]
    """
    half = width // 2
    frequencies = jnp.exp(-jnp.log(_PERIOD) * jnp.arange(half, dtype=jnp.float32) / half)
    angles = (time_scale / num_steps) * t.astype(jnp.float32)[:, None] * frequencies
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


def grid_embedding(rows: int, columns: int, width: int) -> np.ndarray:
    """Embeddings (rows × columns, width) float32 of a grid's positions, row by row.

    Half of the width, a multiple of 4, tells the column and half the row; each half holds the
    sines, then the cosines, of the position at frequencies 10000^(−i / (width/4)).

    Example:
        >>> grid_embedding(2, 1, 4).round(1).tolist()[0]
        [0.0, 1.0, 0.0, 1.0]
    """
    frequencies = _PERIOD ** -(np.arange(width // 4) / (width // 4))
    row, column = np.divmod(np.arange(rows * columns), columns)
    halves = []
    for place in (column, row):
        angles = place[:, None] * frequencies
        halves += [np.sin(angles), np.cos(angles)]
    return np.concatenate(halves, axis=-1).astype(np.float32)


def rotary_angles(rows: int, columns: int, depth: int) -> np.ndarray:
    """Angles (rows × columns, depth / 2) float32 of a grid's positions, row by row.

    The first half are those of the row, the others of the column, each at frequencies
    100^(−i / (depth / 4)), for a depth that is a multiple of 4 (Heo et al. 2024, section 3.2).

    Example:
        >>> rotary_angles(2, 2, 4).tolist()
        [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]
    """
    frequencies = _ROTARY_PERIOD ** -(np.arange(depth // 4) / (depth // 4))
    row, column = np.divmod(np.arange(rows * columns), columns)
    angles = [place[:, None] * frequencies for place in (row, column)]
    return np.concatenate(angles, axis=-1).astype(np.float32)


def rotated(x: jax.Array, angles: np.ndarray) -> jax.Array:
    """Turns each pair (x_i, x_{i + depth / 2}) by its angle; products of two then know the offset.

    x (batch, length, heads, depth) and angles (length, depth / 2) give x's shape and type.

    Example:
        >>> x = jnp.array([1.0, 0.0]).reshape(1, 1, 1, 2)
        >>> rotated(x, np.array([[np.pi / 2]], np.float32)).round(3).ravel().tolist()
        [-0.0, 1.0]
    """
    cosine, sine = jnp.cos(angles)[:, None], jnp.sin(angles)[:, None]
    one, other = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    turned = [one * cosine - other * sine, other * cosine + one * sine]
    return jnp.concatenate(turned, axis=-1).astype(x.dtype)
