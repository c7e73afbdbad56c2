"""Two correlated standard normal numbers, and the best denoiser of separately noised states."""

import jax
import jax.numpy as jnp

from mmdiffusion_jax.baselines import SeparateFunctions
from mmdiffusion_jax.model import ModalityFunctions, Prediction, gaussian_log_prob

CORRELATION = 0.8


def pairs(key, count):
    """(count, 1) each."""
    first, second = jax.random.normal(key, (2, count, 1))
    return {"x": first, "y": CORRELATION * first + (1 - CORRELATION**2) ** 0.5 * second}


def optimal_model(schedule):
    """E[x | z^x_t, z^y_s] as the prediction and p(y | z^x_t, z^y_s) as the head."""
    covariance = jnp.array([[1.0, CORRELATION], [CORRELATION, 1.0]])

    def denoise(states, times):
        def one(z, t):
            signal = jnp.diag(jnp.sqrt(schedule.alpha_bar[t]))
            noise = jnp.diag(schedule.noise_variance[t]) + 1e-6 * jnp.eye(2)
            gain = jnp.linalg.solve(signal @ covariance @ signal + noise, signal @ covariance).T
            return gain @ z, covariance - gain @ signal @ covariance

        z = jnp.concatenate([states["x"], states["y"]], axis=1)
        mean, left = jax.vmap(one)(z, jnp.stack([times["x"], times["y"]], axis=1))
        log_std = 0.5 * jnp.log(jnp.maximum(left[:, 1, 1], 1e-6))[:, None]
        return Prediction(mean[:, :1], {"y": (mean[:, 1:], log_std)})

    x = ModalityFunctions(
        encode=lambda x: x,
        log_prob=lambda mean, x: gaussian_log_prob(mean, jnp.zeros_like(mean), x),
        most_likely=lambda mean: mean,
    )
    y = ModalityFunctions(
        encode=lambda y: y,
        log_prob=lambda head, y: gaussian_log_prob(*head, y),
        expected_encoding=lambda head: head[0],
        most_likely=lambda head: head[0],
    )
    return SeparateFunctions(denoise, {"x": x, "y": y}, "x", "z_0")
