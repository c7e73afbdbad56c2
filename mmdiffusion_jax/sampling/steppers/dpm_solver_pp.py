"""DPM-Solver++: multistep solvers that extrapolate the estimate of the clean state."""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np

from mmdiffusion_jax import errors
from mmdiffusion_jax.model import CleanState
from mmdiffusion_jax.process.checks import expect, expect_whole
from mmdiffusion_jax.sampling.plan import Plan
from mmdiffusion_jax.sampling.steppers.multistep import Move, Multistep, drift_factors


@dataclasses.dataclass(frozen=True)
class DPMSolverPP(Multistep):
    """DPM-Solver++ 1, 2M, 3M and 2M-SDE (Lu et al. 2022, "DPM-Solver++", algorithm 2, eq. 18).

    The clean state and the encodings are smooth in λ = log(sqrt(ᾱ) / σ), so earlier estimates
    extrapolate to those during a step:

        z_s = (σ_s / σ_t) z_t + σ_s Σ_c ∫ Ĉ(λ) d(c / σ)

    with Ĉ constant (order 1, the same as DDIM), at the middle of the line through two estimates
    (2M), or the parabola through three (3M). Each modality's encoding is extrapolated like the
    clean state, which keeps the order where the drift is estimated. "sde" adds the noise of the
    posterior (2M only). The first steps are of lower order for want of estimates.

    The usual code for 3M takes half of the square term of the parabola and so is of order 2; this
    takes the whole term.

    Attributes:
        order: 1, 2 or 3.
        sde: whether steps add noise.

    Raises:
        ValueError: another order, or noise with an order other than 2.

    Example:
        >>> DPMSolverPP().order, DPMSolverPP(order=3).stochastic
        (2, False)
    """

    order: int = 2
    sde: bool = False

    def __post_init__(self) -> None:
        expect_whole("order", self.order, 1, 3)
        expect("sde", self.sde, bool, "pass True or False")
        if self.sde and self.order != 2:
            raise errors.invalid("order", self.order, "2 where sde is set", "use DDIM(eta=1) for 1")

    @property
    def stochastic(self) -> bool:
        """Where `sde` is set."""
        return self.sde

    def move(self, plan: Plan) -> Move:
        """See `Multistep.move`."""
        variance = plan.posterior_variance() * float(self.sde)
        kept, area = plan.move(variance)
        h = plan.gaps
        parts: tuple[CleanState, ...] = (area,)
        if self.order >= 2:
            parts = _line(area, _scaled(area, h / 2), h)
        if self.order == 3:
            parts = _parabola((*parts, _scaled(area, 0 * h)), area, plan)
        return Move(plan.times[:-1], kept, parts, variance, drift_factors(plan))


def _scaled(parts: CleanState, by: np.ndarray) -> CleanState:
    return jax.tree.map(lambda factor: factor * by, parts)


def _line(area: CleanState, first: CleanState, h: np.ndarray) -> tuple[CleanState, CleanState]:
    """Factors of two estimates: area · C_0 + first · (C_0 − C_1) / h_1; C_0 alone at the start."""
    slope = np.concatenate([[0.0], 1 / h[:-1]])
    newest = jax.tree.map(lambda a, m: a + m * slope, area, first)
    return newest, jax.tree.map(lambda m: -m * slope, first)


def _parabola(
    start: tuple[CleanState, ...], area: CleanState, plan: Plan
) -> tuple[CleanState, ...]:
    """Factors of three estimates by Newton's divided differences, from the third step on."""
    h = plan.gaps
    if len(h) < 3:
        return start
    one, two = h[1:-1], h[:-2]
    slopes = (1 / one, -1 / one, np.zeros_like(one))
    bends = tuple(value / (one + two) for value in (1 / one, -(1 / one + 1 / two), 1 / two))

    def join(early: np.ndarray, base: np.ndarray, m1: np.ndarray, m2: np.ndarray, j: int) -> Any:
        late = (
            (base[2:] if j == 0 else 0.0) + m1[2:] * slopes[j] + (m1[2:] * one + m2[2:]) * bends[j]
        )
        return np.concatenate([early[:2], late])

    first, second = plan.moments(1), plan.moments(2)
    return tuple(
        jax.tree.map(functools.partial(join, j=j), start[j], area, first, second) for j in range(3)
    )
