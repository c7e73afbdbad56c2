"""Denoising diffusion implicit models: one estimate a step, with as much noise as is wanted."""

import dataclasses
from typing import ClassVar

from mmdiffusion_jax.process.checks import expect_number
from mmdiffusion_jax.sampling.plan import Plan
from mmdiffusion_jax.sampling.steppers.multistep import Move, Multistep, drift_factors


@dataclasses.dataclass(frozen=True)
class DDIM(Multistep):
    """z_s = κ z_t + Σ_c (c_s − κ c_t) Ĉ + η sqrt(β̃) ξ (Song et al. 2021, eq. 12 and 16).

    η = 0 follows the probability flow, η = 1 is ancestral sampling with the posterior's variance.

    Attributes:
        eta: η in [0, 1].

    Raises:
        ValueError: η out of range.

    Example:
        >>> DDIM().stochastic, DDIM(eta=0.5).stochastic
        (False, True)
    """

    order: ClassVar[int] = 1
    eta: float = 0.0

    def __post_init__(self) -> None:
        expect_number("eta", self.eta, "a number in [0, 1]", lambda x: 0 <= x <= 1)

    @property
    def stochastic(self) -> bool:
        """Where η is above 0."""
        return self.eta > 0

    def move(self, plan: Plan) -> Move:
        """See `Multistep.move`."""
        variance = self.eta**2 * plan.posterior_variance()
        kept, parts = plan.move(variance)
        return Move(plan.times[:-1], kept, (parts,), variance, drift_factors(plan))
