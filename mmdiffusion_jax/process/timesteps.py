"""Draws of t: uniform on 1 … T, for training and for one-t estimates, or by the noise level."""

import math
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from mmdiffusion_jax.process.checks import as_key, expect, expect_number, expect_whole
from mmdiffusion_jax.process.schedules import Schedule


def uniform_timesteps(key: jax.Array, batch_size: int, num_steps: int) -> jax.Array:
    """Independent uniform draws of t.

    Args:
        key: a typed key.
        batch_size: how many draws.
        num_steps: T.

    Returns:
        (batch,) int32 in 1 … T.

    Raises:
        ValueError: no key, or a number that is not a whole one of at least 1.

    Example:
        >>> t = uniform_timesteps(jax.random.key(0), 1000, 5)
        >>> sorted(set(t.tolist()))
        [1, 2, 3, 4, 5]
    """
    key = _checked(key, batch_size, num_steps)
    return jax.random.randint(key, (batch_size,), 1, num_steps + 1, dtype=jnp.int32)


def antithetic_timesteps(key: jax.Array, batch_size: int, num_steps: int) -> jax.Array:
    """Mirrored pairs: half the draws are uniform, the other half are T + 1 − t.

    Draw k is the mirror of draw k + ceil(batch / 2); an odd batch leaves one without its mirror.
    Arguments, shape and errors are those of `uniform_timesteps`.

    Example:
        >>> t = antithetic_timesteps(jax.random.key(0), 4, 100)
        >>> (t[:2] + t[2:]).tolist()
        [101, 101]
    """
    key = _checked(key, batch_size, num_steps)
    half = uniform_timesteps(key, (batch_size + 1) // 2, num_steps)
    return jnp.concatenate([half, num_steps + 1 - half])[:batch_size]


def stratified_timesteps(key: jax.Array, batch_size: int, num_steps: int) -> jax.Array:
    """One shared offset u and t_k = 1 + floor(T · ((u + k / batch) mod 1)), in shuffled order.

    The batch covers 1 … T evenly, which lowers the variance of its mean (Kingma et al. 2021,
    "Variational diffusion models", appendix I.1).

    Arguments, shape and errors are those of `uniform_timesteps`.

    Example:
        >>> t = stratified_timesteps(jax.random.key(0), 8, 4)
        >>> sorted(t.tolist())
        [1, 1, 2, 2, 3, 3, 4, 4]
    """
    offset_key, order_key = jax.random.split(_checked(key, batch_size, num_steps))
    places = (
        jax.random.uniform(offset_key, dtype=jnp.float32)
        + jnp.arange(batch_size, dtype=jnp.float32) / batch_size
    )
    t = 1 + jnp.floor(num_steps * (places % 1.0)).astype(jnp.int32)
    return jax.random.permutation(order_key, jnp.minimum(t, num_steps))


def logit_normal_timesteps(
    key: jax.Array, batch_size: int, schedule: Schedule, mean: float = 0.0, std: float = 1.0
) -> jax.Array:
    """Draws of t whose log(σ_t / sqrt(ᾱ_t)) is normal, as far as the schedule has such a t.

    With σ / sqrt(ᾱ) = s / (1 − s), s is logit-normal, which trains rectified flows better than
    uniform times do (Esser et al. 2024, section 3.1). A draw takes the t of the nearest level.

    Args:
        key: a typed key.
        batch_size: how many draws.
        schedule: whose levels are drawn.
        mean: of log(σ / sqrt(ᾱ)); below 0, images with little noise are drawn more often.
        std: its standard deviation, above 0.

    Returns:
        (batch,) int32 in 1 … T.

    Raises:
        ValueError: no key or schedule, or a number out of its range.

    Example:
        >>> from mmdiffusion_jax.process import cosine_schedule
        >>> t = logit_normal_timesteps(jax.random.key(0), 1000, cosine_schedule(100))
        >>> 48 < float(t.mean()) < 53, float(((t > 25) & (t < 75)).mean()) > 0.5
        (True, True)
    """
    expect("schedule", schedule, Schedule)
    key = _checked(key, batch_size, schedule.num_steps)
    expect_number("mean", mean)
    expect_number("std", std, "a number above 0", lambda x: 0 < x < math.inf, "raise it")
    levels = -0.5 * jnp.log(schedule.snr[1:])
    drawn = mean + std * jax.random.normal(key, (batch_size,), levels.dtype)
    between = (levels[1:] + levels[:-1]) / 2
    return 1 + jnp.searchsorted(between, drawn).astype(jnp.int32)


def _checked(key: jax.Array, batch_size: int, num_steps: int) -> jax.Array:
    expect_whole("batch_size", batch_size, 1)
    expect_whole("num_steps", num_steps, 1)
    return as_key("key", key)


TIMESTEP_DRAWS: Mapping[str, Callable[[jax.Array, int, int], jax.Array]] = {
    "uniform": uniform_timesteps,
    "antithetic": antithetic_timesteps,
    "stratified": stratified_timesteps,
}
"""The draws by their names in configs and losses."""
