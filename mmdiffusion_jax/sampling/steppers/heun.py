"""Heun's second-order method in σ, as EDM takes it: two estimates a step."""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from mmdiffusion_jax.model import CleanState
from mmdiffusion_jax.sampling.plan import Plan
from mmdiffusion_jax.sampling.query import total
from mmdiffusion_jax.sampling.steppers.multistep import DenoiseAt


class Trapezoid(NamedTuple):
    """The tables of a step from t to s, one entry a step; pairs are (at t, at s)."""

    times: Any
    noise: Any
    scale: tuple[CleanState, CleanState]


@dataclasses.dataclass(frozen=True)
class Heun:
    """Trapezoid rule of dx = ε̂ dς + Σ_i Ê_i d(w̄_i / sqrt(ᾱ)) (Karras et al. 2022, algorithm 1).

    x = z / sqrt(ᾱ) and ς = σ / sqrt(ᾱ): a step with the estimate at t leads to a trial state, whose
    estimate at s corrects it.

    Example:
        >>> Heun().order, Heun().calls
        (2, 2)
    """

    order: ClassVar[int] = 2
    calls: ClassVar[int] = 2
    stochastic: ClassVar[bool] = False

    def init(self, plan: Plan, like: CleanState) -> tuple[Trapezoid, None]:
        """See `Stepper.init`."""

        def pair(table: Any) -> tuple[jax.Array, jax.Array]:
            values = jnp.asarray(table, like.z_0.dtype)
            return values[:-1], values[1:]

        start, end = (
            jax.tree.map(lambda table, side=side: pair(table)[side], plan.scale) for side in (0, 1)
        )
        times = jnp.asarray(plan.times)
        return Trapezoid((times[:-1], times[1:]), pair(plan.noise), (start, end)), None

    def step(
        self, tables: Trapezoid, z_t: jax.Array, denoise: DenoiseAt, noise: jax.Array, state: None
    ) -> tuple[jax.Array, None]:
        """See `Stepper.step`."""
        del noise, state
        signals, sigmas = tables.scale, tables.noise

        def slope(side: int, z: jax.Array) -> CleanState:
            """ε̂ and Ê_i at one end, in the structure of a signal."""
            clean = denoise(tables.times[side], z).clean
            noise = (z - total(signals[side], clean)) / sigmas[side]
            return CleanState(noise, clean.encodings)

        levels = [
            CleanState(
                sigma / signal.z_0, {name: w / signal.z_0 for name, w in signal.encodings.items()}
            )
            for sigma, signal in zip(sigmas, signals, strict=True)
        ]
        rises = jax.tree.map(jnp.subtract, levels[1], levels[0])

        def go(slopes: CleanState) -> jax.Array:
            return signals[1].z_0 * (z_t / signals[0].z_0 + total(rises, slopes))

        first = slope(0, z_t)
        second = slope(1, go(first))
        return go(jax.tree.map(lambda a, b: (a + b) / 2, first, second)), None
