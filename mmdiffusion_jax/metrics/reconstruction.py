"""How near one image is to another: PSNR and SSIM, one figure an example, on the device."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from mmdiffusion_jax import errors

_WINDOW, _SIGMA = 11, 1.5
_C1, _C2 = 0.01**2, 0.03**2


def psnr(x: jax.Array, y: jax.Array, *, data_range: float | None = None) -> jax.Array:
    """Peak signal-to-noise ratio, 10 log10(range² / mean (x − y)²), a figure an example.

    Args:
        x: (n, …) images, integers or floats.
        y: what they are compared with, of the same shape.
        data_range: largest minus smallest possible value: 255 of bytes, 1 of [0, 1], 2 of [−1, 1].
            It may be left out for uint8 alone, as other numbers do not tell it.

    Returns:
        (n,) decibels; infinite where both are equal.

    Raises:
        ValueError: different shapes, a range that is not above 0, or none for other numbers than
            uint8.

    Example:
        >>> x, y = jnp.zeros((1, 2, 2, 1)), jnp.full((1, 2, 2, 1), 0.1)
        >>> psnr(x, y, data_range=1.0).round(4).tolist()
        [20.0]
    """
    x, y = _scaled(x, y, data_range)
    error = jnp.square(x - y).mean(axis=tuple(range(1, x.ndim)))
    return -10 * jnp.log10(error)


def ssim(
    x: jax.Array, y: jax.Array, *, data_range: float | None = None, lowest: float = 0.0
) -> jax.Array:
    """Structural similarity (Wang et al. 2004, eq. 13), a figure an example.

    A Gaussian window of 11 × 11 pixels and a standard deviation of 1.5 that sums to one gives local
    means, variances and covariance (without the n − 1 correction) wherever it lies wholly inside
    the image; K1 = 0.01, K2 = 0.03. The mean is taken over places, then over channels.

    Args:
        x: (n, height, width, channels), sides of 11 or more, integers or floats.
        y: what they are compared with, of the same shape.
        data_range: as of `psnr`.
        lowest: the smallest possible value, −1 of images in [−1, 1]; luminance is counted from it.

    Returns:
        (n,), at most 1.

    Raises:
        ValueError: as `psnr`, smaller images, or values below the lowest (outside of jit).

    Example:
        >>> x = jax.random.uniform(jax.random.key(0), (1, 12, 12, 3))
        >>> ssim(x, x, data_range=1.0).round(4).tolist()
        [1.0]
    """
    if np.ndim(x) != 4 or min(np.shape(x)[1:3]) < _WINDOW:
        raise errors.invalid(
            "x",
            f"shape {np.shape(x)}",
            f"(n, height, width, channels) with sides of {_WINDOW} or more",
            "reshape it, or use `psnr`",
        )
    for name, values in (("x", x), ("y", y)):
        if not isinstance(values, jax.core.Tracer) and np.min(values, initial=lowest) < lowest:
            came = f"the value {np.min(values)}"
            mend = "say lowest=-1.0 with data_range=2.0 of images in [−1, 1]"
            raise errors.invalid(name, came, f"none below `lowest`, {lowest}", mend)
    if lowest:
        x, y = jnp.asarray(x) - lowest, jnp.asarray(y) - lowest
    return _ssim(*_scaled(x, y, data_range))


@jax.jit
def _ssim(x: jax.Array, y: jax.Array) -> jax.Array:
    # Variances are those of any shifted image; around the middle they round less.
    shifted_x, shifted_y = x - 0.5, y - 0.5
    moments = jnp.stack([shifted_x, shifted_y, shifted_x**2, shifted_y**2, shifted_x * shifted_y])
    mean_x, mean_y, square_x, square_y, product = _blur(_blur(moments, axis=2), axis=3)
    variances = square_x - mean_x**2 + square_y - mean_y**2
    covariance = product - mean_x * mean_y
    mean_x, mean_y = mean_x + 0.5, mean_y + 0.5
    luminance = (2 * mean_x * mean_y + _C1) / (mean_x**2 + mean_y**2 + _C1)
    return (luminance * (2 * covariance + _C2) / (variances + _C2)).mean(axis=(1, 2, 3))


def _blur(x: jax.Array, axis: int) -> jax.Array:
    """Windowed means along one axis, which gets shorter by ten."""
    length = x.shape[axis] - _WINDOW + 1
    shifted = (
        weight * jax.lax.slice_in_dim(x, start, start + length, axis=axis)
        for start, weight in enumerate(_window())
    )
    return functools.reduce(jnp.add, shifted)


def _window() -> list[float]:
    middle = _WINDOW // 2
    weights = [math.exp(-0.5 * ((i - middle) / _SIGMA) ** 2) for i in range(_WINDOW)]
    return [weight / sum(weights) for weight in weights]


def _scaled(x: jax.Array, y: jax.Array, data_range: float | None) -> tuple[jax.Array, jax.Array]:
    """Both in float32 and in units of the range."""
    if np.shape(x) != np.shape(y):
        raise errors.invalid(
            "y", f"shape {np.shape(y)}", f"{np.shape(x)}, as x has", "pass pairs of images"
        )
    dtypes = {jnp.result_type(x), jnp.result_type(y)}
    if data_range is None:
        if dtypes != {jnp.dtype(jnp.uint8)}:
            raise errors.invalid(
                "data_range",
                f"nothing, for images of {' and '.join(sorted(map(str, dtypes)))}",
                "the largest minus the smallest possible value, of all but uint8",
                "say data_range=1.0 of values in [0, 1], 2.0 of [−1, 1]",
            )
        data_range = 255.0
    if not 0 < data_range < math.inf:
        raise errors.invalid("data_range", data_range, "a finite number above 0", "255 of bytes")
    return (jnp.asarray(x, jnp.float32) / data_range, jnp.asarray(y, jnp.float32) / data_range)
