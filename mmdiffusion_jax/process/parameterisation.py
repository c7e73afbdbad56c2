"""What a network predicts about the shifted state, and the one pivot every prediction goes through.

The shifted state y_t = sqrt(ᾱ_t) z_0 + sqrt(1 − ᾱ_t) ε is a plain variance-preserving diffusion. A
network may predict ε, z_0 or v = sqrt(ᾱ_t) ε − sqrt(1 − ᾱ_t) z_0 (Salimans & Ho 2022); the pair
(z_0, ε) is the pivot between them.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from mmdiffusion_jax.process.checks import as_array, check_same_shape, expect, expect_name
from mmdiffusion_jax.process.forward import check_state, root_at
from mmdiffusion_jax.process.schedules import Schedule

TARGETS = ("noise", "z_0", "v")
"""What a network may predict."""


class Pivot(NamedTuple):
    """A clean state and a noise that together make up y_t; each (batch, *latent).

    Example:
        >>> Pivot(z_0=jnp.ones(2), noise=jnp.zeros(2)).z_0.tolist()
        [1.0, 1.0]
    """

    z_0: jax.Array
    noise: jax.Array


def to_pivot(
    schedule: Schedule, t: ArrayLike, y_t: ArrayLike, prediction: ArrayLike, target: str
) -> Pivot:
    """The clean state and the noise that a prediction implies.

    "noise": z_0 = (y_t − sqrt(1 − ᾱ_t) ε) / sqrt(ᾱ_t).
    "z_0": ε = (y_t − sqrt(ᾱ_t) z_0) / sqrt(1 − ᾱ_t).
    "v": z_0 = sqrt(ᾱ_t) y_t − sqrt(1 − ᾱ_t) v and ε = sqrt(1 − ᾱ_t) y_t + sqrt(ᾱ_t) v.

    Args:
        schedule: the noise schedule.
        t: (batch,) integers in 1 … T.
        y_t: (batch, *latent), the shifted state.
        prediction: (batch, *latent), of the network.
        target: what it predicts: "noise", "z_0" or "v".

    Returns:
        The pair, in the dtype of the state.

    Raises:
        ValueError: an unknown target, shapes that do not agree; `t` out of range (outside jit).

    Example:
        >>> import jax.numpy as jnp
        >>> from mmdiffusion_jax import process
        >>> schedule = process.schedule_from_betas([0.75])
        >>> t, y = jnp.array([1]), jnp.array([[2.0]])
        >>> process.to_pivot(schedule, t, y, jnp.array([[0.0]]), "noise").z_0.tolist()
        [[4.0]]
    """
    expect_name("target", target, TARGETS)
    t, y_t = check_state(schedule, t, y_t, "y_t")
    prediction = as_array("prediction", prediction).astype(y_t.dtype)
    check_same_shape("prediction", prediction, "the state", y_t)
    signal, noise = _amplitudes(schedule, t, y_t)
    if target == "noise":
        return Pivot(z_0=(y_t - noise * prediction) / signal, noise=prediction)
    if target == "z_0":
        return Pivot(z_0=prediction, noise=(y_t - signal * prediction) / noise)
    return Pivot(z_0=signal * y_t - noise * prediction, noise=noise * y_t + signal * prediction)


def from_pivot(schedule: Schedule, t: ArrayLike, pivot: Pivot, target: str) -> jax.Array:
    """The target that a network should predict for a pivot.

    The inverse of `to_pivot`, whose other arguments and errors these are; (batch, *latent).

    Example:
        >>> import jax.numpy as jnp
        >>> from mmdiffusion_jax import process
        >>> schedule = process.schedule_from_betas([0.75])
        >>> pair = process.Pivot(z_0=jnp.array([[0.0]]), noise=jnp.array([[2.0]]))
        >>> process.from_pivot(schedule, jnp.array([1]), pair, "v").tolist()
        [[1.0]]
    """
    expect_name("target", target, TARGETS)
    expect("pivot", pivot, Pivot, "pass process.Pivot(z_0, noise)")
    t, z_0 = check_state(schedule, t, pivot.z_0, "pivot.z_0")
    noise = as_array("pivot.noise", pivot.noise).astype(z_0.dtype)
    check_same_shape("pivot.noise", noise, "pivot.z_0", z_0)
    if target == "noise":
        return noise
    if target == "z_0":
        return z_0
    signal_scale, noise_scale = _amplitudes(schedule, t, z_0)
    return signal_scale * noise - noise_scale * z_0


def noise_error_factor(schedule: Schedule, t: jax.Array, target: str) -> jax.Array:
    """The factor from a squared error of this target to the squared error of the noise.

    For the same y_t: ‖ε − ε_θ‖² = SNR ‖z_0 − ẑ_0‖² = ᾱ_t ‖v − v̂‖². The factor is (batch,), above
    zero, for (batch,) integers t in 1 … T and a target "noise", "z_0" or "v".

    Raises:
        ValueError: an unknown target; `t` not integer, or out of range (outside jit).

    Example:
        >>> from mmdiffusion_jax import process
        >>> schedule = process.schedule_from_betas([0.75])
        >>> noise_error_factor(schedule, jnp.array([1]), "v").tolist()
        [0.25]
    """
    expect_name("target", target, TARGETS)
    expect("schedule", schedule, Schedule)
    t = as_array("t", t, "integers")
    check_state(schedule, t, jnp.zeros(t.shape), "t")
    if target == "noise":
        return jnp.ones(t.shape, schedule.alpha_bar.dtype)
    return (schedule.snr if target == "z_0" else jnp.asarray(schedule.alpha_bar))[t]


def _amplitudes(schedule: Schedule, t: jax.Array, like: jax.Array) -> tuple[jax.Array, jax.Array]:
    return root_at(schedule.alpha_bar, t, like), root_at(schedule.noise_variance, t, like)
