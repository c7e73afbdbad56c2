"""The isotropic or diagonal Gaussian: what every step of the process returns."""

import dataclasses

import jax
import jax.numpy as jnp


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
        """Draws mean + sqrt(variance) · ε with ε ~ N(0, I), of `mean`'s shape and dtype.

        Args:
            key: a typed key from `jax.random.key`.

        Returns:
            (batch, *latent), one draw an example.
        """
        noise = jax.random.normal(key, self.mean.shape, self.mean.dtype)
        return self.mean + jnp.sqrt(self.variance) * noise


def sum_per_example(values: jax.Array) -> jax.Array:
    """Sums everything but the leading batch axis: (batch, ...) → (batch,).

    Example:
        >>> import jax.numpy as jnp
        >>> sum_per_example(jnp.ones((2, 3, 4))).tolist()
        [12.0, 12.0]
    """
    return jnp.sum(values.reshape(values.shape[0], -1), axis=1)


def gaussian_kl(p: Gaussian, q: Gaussian) -> jax.Array:
    """Kullback–Leibler divergence of two diagonal Gaussians, KL(p ‖ q), per example.

    KL = ½ Σ_d [ log(v_q / v_p) + v_p / v_q − 1 + (m_p − m_q)² / v_q ]

    Args:
        p: means (batch, *latent), variances broadcastable to them and above zero.
        q: the same.

    Returns:
        (batch,), nats.

    Example:
        >>> import jax.numpy as jnp
        >>> p = Gaussian(jnp.ones((1, 2)), jnp.ones((1, 1)))
        >>> q = Gaussian(jnp.zeros((1, 2)), jnp.ones((1, 1)))
        >>> gaussian_kl(p, q).tolist()
        [1.0]
    """
    ratio = p.variance / q.variance
    distance = (p.mean - q.mean) ** 2 / q.variance
    return 0.5 * sum_per_example(
        jnp.broadcast_to(ratio - 1 - jnp.log(ratio), distance.shape) + distance
    )
