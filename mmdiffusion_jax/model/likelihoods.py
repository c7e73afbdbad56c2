"""Log-likelihoods of the decoder heads: per example, in nats, summed over all of x's dimensions."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import log_ndtr

from mmdiffusion_jax import errors
from mmdiffusion_jax.process.checks import (
    as_array,
    check_same_shape,
    described,
    expect_whole,
    widest,
)
from mmdiffusion_jax.process.gaussian import sum_per_example


def categorical_log_prob(
    logits: jax.Array, classes: jax.Array, counted: jax.Array | None = None
) -> jax.Array:
    """log p(x) of independent categorical variables (a label, a mask's pixels, tokens).

    log p(x) = Σ_d ( logits[d, x_d] − log Σ_k exp logits[d, k] )

    Args:
        logits: (batch, *dims, classes).
        classes: (batch, *dims) integers in 0 … classes − 1.
        counted: (batch, *dims) booleans, the variables d in the sum; left out, all of them.

    Returns:
        (batch,), nats.

    Raises:
        ValueError: shapes that do not agree, or classes that are not integers; the range of the
            classes is not checked, and a class out of it, below or above, makes the result not a
            number where it is counted.

    Example:
        >>> import jax.numpy as jnp
        >>> round(float(categorical_log_prob(jnp.zeros((1, 4)), jnp.array([2]))[0]), 4)
        -1.3863
    """
    logits, classes = as_array("logits", logits), as_array("classes", classes)
    if (
        classes.shape != logits.shape[:-1]
        or not logits.ndim
        or not jnp.issubdtype(classes.dtype, jnp.integer)
    ):
        raise errors.invalid(
            "classes",
            f"shape {classes.shape} of {classes.dtype}",
            f"integers of shape {logits.shape[:-1]}, as the logits",
            "give one class index for each row of logits",
        )
    log_probs = jax.nn.log_softmax(logits)
    chosen = jnp.take_along_axis(log_probs, classes[..., None], axis=-1)[..., 0]
    # An index below 0 would count from the end.
    chosen = jnp.where(classes < 0, jnp.nan, chosen)
    return sum_per_example(_counted(counted, chosen))


def gaussian_log_prob(mean: jax.Array, log_std: jax.Array, x: jax.Array) -> jax.Array:
    """log density of independent Gaussians.

    log p(x) = − Σ_d [ ½ ((x_d − m_d) / s_d)² + log s_d + ½ log 2π ]

    Args:
        mean: (batch, *dims).
        log_std: log of the standard deviation, broadcastable to `mean`.
        x: (batch, *dims).

    Returns:
        (batch,), nats (of a density: it may be above zero).

    Raises:
        ValueError: shapes that do not agree.

    Example:
        >>> import jax.numpy as jnp
        >>> zero = jnp.zeros((1, 1))
        >>> round(float(gaussian_log_prob(zero, zero, zero)[0]), 4)
        -0.9189
    """
    mean, log_std, x = _agreeing(mean, log_std, x)
    z = (x - mean) * jnp.exp(-log_std)
    return sum_per_example(-0.5 * z**2 - log_std - 0.5 * jnp.log(2 * jnp.pi).astype(z.dtype))


def discretised_gaussian_log_prob(
    mean: jax.Array,
    log_std: jax.Array,
    x: jax.Array,
    num_levels: int,
    counted: jax.Array | None = None,
) -> jax.Array:
    """log p(x) of a Gaussian whose mass falls on evenly spaced levels in [−1, 1].

    p(x_d = level k) = Φ((c_k + h − m)/s) − Φ((c_k − h − m)/s), with the level's centre
    c_k = −1 + 2k/(L − 1), half a spacing h = 1/(L − 1), and the outermost bins open to ±∞, so that
    the L probabilities sum to one (Ho et al. 2020, eq. 13, for any number of levels).

    Computed from log Φ on the side where both bounds are in the lower tail, so it stays finite and
    keeps its gradient where the difference itself would round to zero.

    Args:
        mean: (batch, *dims), in units where the levels span [−1, 1].
        log_std: log of the standard deviation, broadcastable to `mean`.
        x: (batch, *dims), values on the levels, in the same units.
        num_levels: L, at least 2; 256 for 8-bit images.
        counted: booleans, broadcastable to `mean`, the entries d in the sum; left out, all of them.

    Returns:
        (batch,), nats.

    Raises:
        ValueError: fewer than two levels, shapes that do not agree, or as x the numbers of levels,
            such as 8-bit pixels, which are not their values: unsigned integers and, outside jit,
            values beyond [−1, 1].

    Example:
        >>> import jax.numpy as jnp
        >>> mean, log_std, x = jnp.zeros((1, 1)), jnp.zeros((1, 1)), jnp.ones((1, 1))
        >>> round(float(discretised_gaussian_log_prob(mean, log_std, x, 2)[0]), 4)
        -0.6931
    """
    expect_whole("num_levels", num_levels, 2)
    x = _levels(x, num_levels)
    mean, log_std, x = _agreeing(mean, log_std, x)
    half = 1.0 / (num_levels - 1)
    inverse = jnp.exp(-log_std)
    upper = (x + half - mean) * inverse
    lower = (x - half - mean) * inverse
    first, last = x < -1 + half, x > 1 - half
    # Mirrored so that the bin lies in the lower tail, where log Φ keeps its precision.
    mirrored = (x > mean) & ~first | last
    high = jnp.where(mirrored, -lower, upper)
    low = jnp.where(mirrored, -upper, lower)
    open_ended = first | last
    low = jnp.where(open_ended, high - 1, low)
    log_high = log_ndtr(high)
    # log(1 − exp(−gap)), gap > 0; expm1 is exact where the bin is narrow.
    gap = jnp.maximum(log_high - log_ndtr(low), jnp.finfo(high.dtype).tiny)
    log_inside = log_high + jnp.log(-jnp.expm1(-gap))
    return sum_per_example(_counted(counted, jnp.where(open_ended, log_high, log_inside)))


def _levels(x: jax.Array, num_levels: int) -> jax.Array:
    """x as an array, refused where it numbers the levels, by its dtype or outside jit its range."""
    x = as_array("x", x)
    is_known = x.size and not isinstance(x, jax.core.Tracer)
    beyond = is_known and np.abs(np.asarray(x)).max() > 1 + 1 / num_levels
    if jnp.issubdtype(x.dtype, jnp.unsignedinteger) or beyond:
        raise errors.invalid(
            "x",
            described(x),
            "values on the levels in [−1, 1]",
            f"turn numbers 0 … {num_levels - 1} of levels into them by "
            f"x.astype(jnp.float32) / {(num_levels - 1) / 2:g} - 1",
        )
    return x


def _agreeing(
    mean: jax.Array, log_std: jax.Array, x: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """All three as arrays of the mean's shape and of floats."""
    mean, log_std, x = as_array("mean", mean), as_array("log_std", log_std), as_array("x", x)
    check_same_shape("x", x, "the mean", mean)
    dtype = widest(mean, log_std, x)
    mean, x = mean.astype(dtype), x.astype(dtype)
    return mean, _broadcast("log_std", log_std, mean.shape).astype(dtype), x


def _counted(counted: jax.Array | None, terms: jax.Array) -> jax.Array:
    if counted is None:
        return terms
    counted = _broadcast("counted", as_array("counted", counted), terms.shape)
    return jnp.where(counted.astype(bool), terms, jnp.zeros((), terms.dtype))


def _broadcast(name: str, values: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    try:
        return jnp.broadcast_to(values, shape)
    except ValueError as error:
        raise errors.invalid(
            name,
            f"shape {values.shape}",
            f"one that broadcasts to {shape}",
            "give one value each, or one for all",
        ) from error
