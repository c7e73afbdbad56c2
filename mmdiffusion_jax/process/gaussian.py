"""The isotropic or diagonal Gaussian: what every step of the process returns."""

import dataclasses

import jax
import jax.numpy as jnp

from mmdiffusion_jax import errors
from mmdiffusion_jax.process.checks import as_array, as_key, check_same_shape, expect


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Gaussian:
    """A Gaussian N(mean, variance · I) over the latent, one for each example.

    Attributes:
        mean: (batch, *latent).
        variance: variance, not standard deviation; broadcastable to `mean`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> wide = Gaussian(mean=jnp.zeros((2, 3)), variance=jnp.full((2, 1), 4.0))
        >>> wide.sample(jax.random.key(0)).shape
        (2, 3)
    """

    mean: jax.Array
    variance: jax.Array

    def sample(self, key: jax.Array) -> jax.Array:
        """Draws mean + sqrt(variance) · ε with ε ~ N(0, I), of the mean's shape and dtype.

        Raises:
            ValueError: no key, or a mean that is no array.
        """
        key, mean, variance = as_key("key", key), *_parts("the Gaussian", self)
        return mean + jnp.sqrt(variance) * jax.random.normal(key, mean.shape, mean.dtype)


def sum_per_example(values: jax.Array) -> jax.Array:
    """Sums everything but the leading batch axis: (batch, ...) → (batch,).

    Raises:
        ValueError: a number, which has no batch axis.

    Example:
        >>> import jax.numpy as jnp
        >>> sum_per_example(jnp.ones((2, 3, 4))).tolist()
        [12.0, 12.0]
    """
    values = as_array("values", values)
    if not values.ndim:
        raise errors.invalid("values", "a number", "(batch, …)", "give it a leading batch axis")
    return jnp.sum(values, axis=tuple(range(1, values.ndim)))


def gaussian_kl(p: Gaussian, q: Gaussian) -> jax.Array:
    """Kullback–Leibler divergence of two diagonal Gaussians, KL(p ‖ q), per example.

    KL = ½ Σ_d [ log(v_q / v_p) + v_p / v_q − 1 + (m_p − m_q)² / v_q ],   (batch,) nats

    Variances are above zero.

    Raises:
        ValueError: anything but Gaussians, or shapes that do not agree.

    Example:
        >>> import jax.numpy as jnp
        >>> p = Gaussian(jnp.ones((1, 2)), jnp.ones((1, 1)))
        >>> q = Gaussian(jnp.zeros((1, 2)), jnp.ones((1, 1)))
        >>> gaussian_kl(p, q).tolist()
        [1.0]
    """
    expect("p", p, Gaussian)
    expect("q", q, Gaussian)
    (mean, variance), (other, other_variance) = _parts("p", p), _parts("q", q)
    check_same_shape("q.mean", other, "p.mean", mean)
    ratio = variance / other_variance
    distance = (mean - other) ** 2 / other_variance
    return 0.5 * sum_per_example(
        jnp.broadcast_to(ratio - 1 - jnp.log(ratio), distance.shape) + distance
    )


def _parts(name: str, law: Gaussian) -> tuple[jax.Array, jax.Array]:
    """Mean and variance as arrays of as many axes each."""
    mean = as_array(f"{name}.mean", law.mean)
    variance = as_array(f"{name}.variance", law.variance).astype(mean.dtype)
    try:
        fits = jnp.broadcast_shapes(mean.shape, variance.shape) == mean.shape
    except ValueError:
        fits = False
    if not fits:
        raise errors.invalid(
            f"{name}.variance",
            f"shape {variance.shape}",
            f"one that broadcasts to the mean's, {mean.shape}",
            "give one variance an example as (batch, 1, …)",
        )
    return mean, variance.reshape((1,) * (mean.ndim - variance.ndim) + variance.shape)
