"""The von Mises–Fisher distribution: directions about a mean direction, in any dimension."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmdiffusion_jax import errors
from mmdiffusion_jax.process.checks import as_array, as_key, check_same_shape, expect_whole, widest

# Debye's expansion to its third term is exact to single precision from this order on.
_LOWEST_ORDER = 16.0
_DEBYE = (
    {0: 1.0},
    {1: 3 / 24, 3: -5 / 24},
    {2: 81 / 1152, 4: -462 / 1152, 6: 385 / 1152},
    {3: 30375 / 414720, 5: -369603 / 414720, 7: 765765 / 414720, 9: -425425 / 414720},
)
# A proposal is accepted with probability above one half: a bound only against endless loops.
_MOST_PROPOSALS = 64


def von_mises_fisher_log_prob(direction: jax.Array, kappa: jax.Array, x: jax.Array) -> jax.Array:
    """log density on the unit sphere of d dimensions, by its surface measure.

    log p(x) = κ μ·x − log ∫ exp(κ μ·x) dS,
    ∫ exp(κ μ·x) dS = (2π)^(d/2) I_(d/2−1)(κ) / κ^(d/2−1)   (Mardia & Jupp 2000, eq. 9.3.4)

    The logarithm of the Bessel function comes from Debye's uniform expansion at a high order and
    the recurrence downward (DLMF 10.41.3 and 10.29.1), whose terms are all positive: exact to
    single precision from κ = 0 on, in any dimension.

    Args:
        direction: μ, (batch, d), unit vectors, d at least 2.
        kappa: κ ≥ 0, (batch,), the concentration; uniform at zero.
        x: (batch, d), unit vectors.

    Returns:
        (batch,), nats (of a density: it may be above zero).

    Raises:
        ValueError: fewer than two dimensions, or shapes that do not agree.

    Example:
        >>> import jax.numpy as jnp
        >>> mu = jnp.array([[1.0, 0.0, 0.0]])
        >>> round(float(von_mises_fisher_log_prob(mu, jnp.zeros(1), mu)[0]), 4)  # −log 4π
        -2.531
    """
    direction, kappa = _law(direction, kappa)
    x = as_array("x", x).astype(direction.dtype)
    check_same_shape("x", x, "the direction", direction)
    log_mean, _ = _log_mean_and_resultant(x.shape[-1], kappa)
    return kappa * jnp.sum(direction * x, axis=-1) - log_mean - _log_area(x.shape[-1])


def von_mises_fisher_resultant(dims: int, kappa: jax.Array) -> jax.Array:
    """Length of the mean, E[x] = A_d(κ) μ with A_d(κ) = I_(d/2)(κ) / I_(d/2−1)(κ) in 0 … 1.

    d = `dims` is at least 2; κ ≥ 0 has any shape, which A_d(κ) has too.

    Raises:
        ValueError: `dims` is no whole number of at least 2, or κ no array.

    Example:
        >>> import jax.numpy as jnp
        >>> round(float(von_mises_fisher_resultant(3, jnp.array(2.0))), 4)  # coth 2 − 1/2
        0.5373
    """
    kappa = as_array("kappa", kappa)
    return _log_mean_and_resultant(expect_whole("dims", dims, 2), kappa.astype(widest(kappa)))[1]


def von_mises_fisher_draw(key: jax.Array, direction: jax.Array, kappa: jax.Array) -> jax.Array:
    """x ~ von Mises–Fisher, by Wood's rejection (Wood 1994, algorithm VM*).

    The share of x along μ is drawn by rejection, the rest uniformly among the directions at right
    angles to μ. The share is kept as its distance from one, which single precision resolves for any
    κ. Proposals are made until every example of the batch has one.

    Args:
        key: a typed key.
        direction: μ, (batch, d), unit vectors.
        kappa: κ > 0, (batch,).

    Returns:
        (batch, d), unit vectors.

    Raises:
        ValueError: no key, fewer than two dimensions, or shapes that do not agree.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> mu = jnp.array([[0.0, 1.0]])
        >>> x = von_mises_fisher_draw(jax.random.key(0), mu, jnp.array([1e4]))
        >>> bool(x[0, 1] > 0.99)
        True
    """
    direction, kappa = _law(direction, kappa)
    of_share, of_tangent = jax.random.split(as_key("key", key))
    half = (direction.shape[-1] - 1) / 2
    b = half / (kappa + jnp.sqrt(kappa**2 + half**2))
    # 1 − x_0 of Wood's envelope; its own 1 − w is `below`.
    below_mode = 2 * b / (1 + b)

    def propose(state: tuple[jax.Array, jax.Array, jax.Array]) -> Any:
        count, below, accepted = state
        keys = jax.random.split(jax.random.fold_in(of_share, count))
        proposal, rest = _symmetric_beta(keys[0], direction.shape, kappa.dtype)
        proposed = 2 * b * proposal / (rest + b * proposal)
        ratio = (below_mode + (1 - below_mode) * proposed) / (4 * b / (1 + b) ** 2)
        log_accept = kappa * (below_mode - proposed) + 2 * half * jnp.log(ratio)
        uniform = jax.random.uniform(keys[1], kappa.shape, kappa.dtype, minval=1e-30)
        chosen = ~accepted & (log_accept >= jnp.log(uniform))
        return count + 1, jnp.where(chosen, proposed, below), accepted | chosen

    _, below, _ = jax.lax.while_loop(
        lambda state: (state[0] < _MOST_PROPOSALS) & ~jnp.all(state[2]),
        propose,
        (jnp.int32(0), below_mode, jnp.zeros(kappa.shape, bool)),
    )
    below = below[:, None]

    tangent = jax.random.normal(of_tangent, direction.shape, direction.dtype)
    tangent = tangent - jnp.sum(tangent * direction, axis=-1, keepdims=True) * direction
    tangent = tangent / jnp.linalg.norm(tangent, axis=-1, keepdims=True)
    x = (1 - below) * direction + jnp.sqrt(below * (2 - below)) * tangent
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


def _law(direction: jax.Array, kappa: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Both as floating arrays of one dtype, (batch, d) and (batch,)."""
    direction, kappa = as_array("direction", direction), as_array("kappa", kappa)
    if direction.ndim != 2 or direction.shape[1] < 2:
        raise errors.invalid(
            "direction",
            f"shape {direction.shape}",
            "(batch, d) with d of at least 2",
            "give one unit vector an example",
        )
    if kappa.shape != direction.shape[:1]:
        raise errors.invalid(
            "kappa", f"shape {kappa.shape}", f"{direction.shape[:1]}", "give one an example"
        )
    dtype = widest(direction, kappa)
    return direction.astype(dtype), kappa.astype(dtype)


def _symmetric_beta(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> tuple[Any, Any]:
    """(b, 1 − b) with b ~ Beta((d − 1)/2, (d − 1)/2) for shape (batch, d), both precise near zero.

    (1 + w)/2 has this law for the first coordinate w of a uniform direction.
    """
    normal = jax.random.normal(key, shape, dtype)
    rest = jnp.sum(normal[:, 1:] ** 2, axis=-1)
    square = normal[:, 0] ** 2 + rest
    smaller = rest / square / (2 * (1 + jnp.abs(normal[:, 0]) / jnp.sqrt(square)))
    positive = normal[:, 0] > 0
    return jnp.where(positive, 1 - smaller, smaller), jnp.where(positive, smaller, 1 - smaller)


def _log_area(dims: int) -> float:
    """log of the unit sphere's surface, 2 π^(d/2) / Γ(d/2)."""
    return math.log(2) + dims / 2 * math.log(math.pi) - math.lgamma(dims / 2)


def _log_mean_and_resultant(dims: int, kappa: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(log of the mean of exp(κ μ·x) over the sphere, its derivative A_d(κ)).

    The mean is g_ν = Γ(ν+1) (2/κ)^ν I_ν(κ), ν = d/2 − 1. With r_ν = I_(ν+1) / I_ν the recurrence
    reads  log g_(ν−1) = log g_ν + log(1 + κ r_ν / 2ν),  r_(ν−1) = κ / (2ν + κ r_ν).
    """
    order = dims / 2 - 1
    top = order + max(0, math.ceil(_LOWEST_ORDER - order))
    z = kappa / top
    root = jnp.sqrt(1 + z**2)
    p = 1 / root
    rise = z**2 / (1 + root)
    series, slope = (
        jnp.polyval(jnp.asarray(coefficients[::-1], p.dtype), p) for coefficients in _debye(top)
    )
    log_mean = top * (rise - jnp.log1p(rise / 2)) - 0.5 * jnp.log(root) + jnp.log(series)
    # log Γ(ν+1) less Stirling's formula, so that the mean is one at κ = 0.
    log_mean = log_mean + (
        math.lgamma(top + 1) - top * math.log(top) + top - 0.5 * math.log(2 * math.pi * top)
    )
    resultant = z * (1 / (1 + root) - (0.5 * p**2 + p**3 * slope / series) / top)
    while top > order:
        log_mean = log_mean + jnp.log1p(kappa * resultant / (2 * top))
        resultant = kappa / (2 * top + kappa * resultant)
        top -= 1
    return log_mean, resultant


def _debye(order: float) -> tuple[list[float], list[float]]:
    """Coefficients in p of Σ_k u_k(p) / ν^k and of its derivative (DLMF 10.41.10)."""
    series = np.zeros(10)
    for k, terms in enumerate(_DEBYE):
        for power, value in terms.items():
            series[power] += value / order**k
    return series.tolist(), np.polynomial.polynomial.polyder(series).tolist()
