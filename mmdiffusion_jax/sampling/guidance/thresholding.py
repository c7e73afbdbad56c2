"""Thresholding: decorators denoiser → denoiser that keep ẑ_0 within the range of the data."""

from collections.abc import Callable, Collection

import jax
import jax.numpy as jnp

from mmdiffusion_jax import errors
from mmdiffusion_jax.model import Denoiser, NoisyState, Roles
from mmdiffusion_jax.process.checks import expect_number
from mmdiffusion_jax.sampling.query import Decorator, Query


def static_threshold(
    low: float = -1.0, high: float = 1.0, names: Collection[str] | None = None
) -> Decorator:
    """ẑ_0 ← min(max(ẑ_0, low), high), entry by entry.

    Args:
        low: the least value of an entry of a clean state.
        high: the greatest.
        names: the modalities that are kept so where they are diffused; left out, all.

    Raises:
        ValueError: when low is not below high.

    Example:
        >>> decorate = static_threshold(-1.0, 1.0)
    """
    for name, value in (("low", low), ("high", high)):
        expect_number(name, value, "a number", lambda x: x == x)
    if not low < high:
        raise errors.invalid("low, high", (low, high), "low < high", "swap them")
    return _on_clean(lambda z_0: jnp.clip(z_0, low, high), names)


def dynamic_threshold(
    quantile: float = 0.995, bound: float = 1.0, names: Collection[str] | None = None
) -> Decorator:
    """ẑ_0 ← clip(ẑ_0, ±s) · bound / s, s = max(bound, quantile of |ẑ_0|), per example.

    Keeps strong guidance from saturating (Saharia et al. 2022, "Imagen", section 2.3).

    Args:
        quantile: in (0, 1].
        bound: the greatest absolute value of an entry of a clean state, above 0.
        names: as in `static_threshold`.

    Raises:
        ValueError: a quantile or a bound out of range.

    Example:
        >>> decorate = dynamic_threshold(0.99)
    """
    expect_number("quantile", quantile, "a share in (0, 1]", lambda x: 0 < x <= 1)
    expect_number("bound", bound, "a number above 0", lambda x: x > 0)

    def apply(z_0: jax.Array) -> jax.Array:
        sizes = jnp.abs(z_0).reshape(z_0.shape[0], -1)
        limit = jnp.maximum(jnp.quantile(sizes, quantile, axis=1), bound)
        limit = limit.reshape((-1,) + (1,) * (z_0.ndim - 1)).astype(z_0.dtype)
        return jnp.clip(z_0, -limit, limit) * (bound / limit)

    return _on_clean(apply, names)


def _on_clean(
    function: Callable[[jax.Array], jax.Array], names: Collection[str] | None = None
) -> Decorator:
    """Applies a function to every ẑ_0 of these modalities."""

    def decorate(denoiser: Denoiser, query: Query) -> Denoiser:
        if names is not None and query.diffusion.model.primary not in names:
            return denoiser

        def threshold(t: jax.Array, z_t: jax.Array, roles: Roles) -> NoisyState:
            state = denoiser(t, z_t, roles)
            return state.with_z_0(function(state.clean.z_0))

        return threshold

    return decorate
