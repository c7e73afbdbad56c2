"""Noise schedules: how much of the state each step of the forward process retains.

A schedule is named by its retentions r_t = 1 − β_t, so that with every modality weight at zero
the process is a denoising diffusion probabilistic model (Ho et al. 2020). The multi-modal
coefficient of a process with N modalities is α_t = (N + 1) r_t.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from mmdiffusion_jax import errors
from mmdiffusion_jax.process.checks import as_table, expect_number, expect_whole

_MAX_BETA = 0.999


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Schedule:
    """A variance-preserving noise schedule with T steps; every table has T + 1 values.

    The complements are tables of their own because 1 − ᾱ_t, taken from a float32 ᾱ_t near one,
    has lost most of its digits.

    Attributes:
        retention: r_t, the share of the variance one step keeps; r_0 = 1.
        alpha_bar: ᾱ_t = Π_{s≤t} r_s, the share kept since t = 0; ᾱ_0 = 1.
        beta: β_t = 1 − r_t, the variance one step adds; β_0 = 0.
        noise_variance: 1 − ᾱ_t, the variance of the noise in z_t; 0 at t = 0.

    Example:
        >>> schedule = cosine_schedule(10)
        >>> schedule.num_steps, schedule.alpha_bar.shape, float(schedule.alpha_bar[0])
        (10, (11,), 1.0)
    """

    retention: jax.Array
    alpha_bar: jax.Array
    beta: jax.Array
    noise_variance: jax.Array

    @property
    def num_steps(self) -> int:
        """T, the number of steps."""
        return self.retention.shape[-1] - 1

    @property
    def snr(self) -> jax.Array:
        """Signal-to-noise ratio ᾱ_t / (1 − ᾱ_t), T + 1 values; infinite at t = 0."""
        return jnp.divide(self.alpha_bar, self.noise_variance)

    def alpha(self, num_modalities: int) -> jax.Array:
        """The multi-modal coefficient α_t = (N + 1) r_t, T + 1 values in (0, N + 1].

        Args:
            num_modalities: N, the number of modalities that drive the process, from 0.

        Raises:
            ValueError: when `num_modalities` is negative.
        """
        return (expect_whole("num_modalities", num_modalities, 0) + 1) * self.retention


def schedule_from_betas(betas: ArrayLike) -> Schedule:
    """Builds a schedule from β_t = 1 − r_t for t = 1 … T.

    Tables are derived in float64 on the host and stored in JAX's default float type: float32,
    or float64 where x64 is enabled. A schedule given as α_t in (0, N + 1) is
    `schedule_from_betas(1 - alpha / (N + 1))`.

    Args:
        betas: (T,) values strictly between 0 and 1.

    Raises:
        ValueError: when `betas` is empty, not one-dimensional, or leaves (0, 1).

    Example:
        >>> schedule_from_betas([0.25, 0.5]).alpha_bar.tolist()
        [1.0, 0.75, 0.375]
    """
    beta = as_table("betas", betas)
    if beta.ndim != 1 or beta.size == 0:
        raise errors.invalid(
            "betas", f"shape {beta.shape}", "shape (T,) with T of at least 1", "give one β a step"
        )
    if not np.all((beta > 0) & (beta < 1)):
        worst = int(np.flatnonzero(~((beta > 0) & (beta < 1)))[0])
        raise errors.invalid(
            "betas",
            f"{beta[worst]} at t = {worst + 1}",
            "values strictly between 0 and 1",
            "clip or rescale them",
        )
    beta = np.concatenate([[0.0], beta])
    log_alpha_bar = np.cumsum(np.log1p(-beta))
    least = jnp.finfo(jnp.zeros(()).dtype).tiny
    if np.exp(log_alpha_bar[-1]) < least:
        raise errors.invalid(
            "betas",
            f"values that leave ᾱ_T at 10^{log_alpha_bar[-1] / np.log(10):.0f}",
            f"ᾱ_T of at least {least:.2g}, the least number of its dtype",
            "lower them, or take fewer steps",
        )
    return Schedule(
        retention=jnp.asarray(1 - beta),
        alpha_bar=jnp.asarray(np.exp(log_alpha_bar)),
        beta=jnp.asarray(beta),
        noise_variance=jnp.asarray(-np.expm1(log_alpha_bar)),
    )


def linear_schedule(num_steps: int, beta_start: float = 1e-4, beta_end: float = 0.02) -> Schedule:
    """β_t linear in t (Ho et al. 2020, section 4).

    `beta_start` and `beta_end` are meant for 1,000 steps; for another number they are multiplied
    by 1000 / T and capped at 0.999. ᾱ_T, 4e-5 at 1,000 steps, is 2e-5 at 100 and smaller with
    fewer; a single step leaves 0.9.

    Args:
        num_steps: T, at least 1.
        beta_start: β_1 at 1,000 steps.
        beta_end: β_T at 1,000 steps.

    Raises:
        ValueError: when `num_steps` is not a whole number of at least 1, or a β leaves (0, 1).

    Example:
        >>> round(float(linear_schedule(1000).beta[-1]), 6)
        0.02
    """
    expect_whole("num_steps", num_steps, 1)
    expect_number("beta_start", beta_start)
    expect_number("beta_end", beta_end)
    scale = 1000 / num_steps
    betas = np.linspace(scale * beta_start, scale * beta_end, num_steps, dtype=np.float64)
    return schedule_from_betas(np.minimum(betas, _MAX_BETA))


def cosine_schedule(num_steps: int, offset: float = 0.008) -> Schedule:
    """ᾱ_t = f(t) / f(0), f(t) = cos²( ½π (t/T + s) / (1 + s) ) (Nichol & Dhariwal 2021, eq. 17).

    Each β_t is capped at 0.999, as the authors do.

    Args:
        num_steps: T, at least 1.
        offset: s, which keeps the first steps from being too small.

    Raises:
        ValueError: when `num_steps` is not a whole number of at least 1.

    Example:
        >>> schedule = cosine_schedule(100)
        >>> bool(schedule.alpha_bar[-1] < 1e-5)
        True
    """
    expect_number("offset", offset)
    return _from_curve(num_steps, lambda s: np.cos(0.5 * np.pi * (s + offset) / (1 + offset)) ** 2)


def sigmoid_schedule(
    num_steps: int, start: float = -3.0, end: float = 3.0, temperature: float = 1.0
) -> Schedule:
    """ᾱ falls along a sigmoid in t (Jabri et al. 2022, "Scalable adaptive computation").

    ᾱ_t ∝ σ(end / τ) − σ((start + (end − start) t/T) / τ), each β_t capped at 0.999.

    Args:
        num_steps: T, at least 1.
        start: where on the sigmoid t = 0 lies.
        end: where t = T lies.
        temperature: τ; lower is steeper.

    Raises:
        ValueError: when `num_steps` is not a whole number of at least 1, or the curve rises.

    Example:
        >>> schedule = sigmoid_schedule(50)
        >>> bool((schedule.alpha_bar[1:] < schedule.alpha_bar[:-1]).all())
        True
    """
    for name, value in (("start", start), ("end", end), ("temperature", temperature)):
        expect_number(name, value)

    def sigmoid(x: np.ndarray | float) -> np.ndarray:
        return np.asarray(1 / (1 + np.exp(-np.asarray(x, np.float64) / temperature)))

    return _from_curve(num_steps, lambda s: sigmoid(end) - sigmoid(start + (end - start) * s))


def _from_curve(num_steps: int, curve: Callable[[np.ndarray], np.ndarray]) -> Schedule:
    """A schedule whose ᾱ_t follows `curve(t / T)` up to its value at 0."""
    expect_whole("num_steps", num_steps, 1)
    values = curve(np.linspace(0.0, 1.0, num_steps + 1, dtype=np.float64))
    return schedule_from_betas(np.minimum(1 - values[1:] / values[:-1], _MAX_BETA))
