"""Ancestral sampling: draws from the reverse process of the model."""

import dataclasses
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mmdiffusion_jax import errors
from mmdiffusion_jax.model import NoisyState
from mmdiffusion_jax.sampling.plan import Plan
from mmdiffusion_jax.sampling.steppers.multistep import Move, Multistep, drift_factors


class _Learned(NamedTuple):
    """The logs of the variances between which a model interpolates."""

    lower: np.ndarray
    upper: np.ndarray


@dataclasses.dataclass(frozen=True)
class Ancestral(Multistep):
    """z_s ~ q(z_s | z_t, ẑ_0, Ê), the posterior of the process (Ho et al. 2020, algorithm 2).

    The variance is that of the model: "posterior" is β̃; "upper" is the variance of the step
    forward, 1 − ᾱ_t / ᾱ_s; "learned" lies between the two (Nichol & Dhariwal 2021, eq. 15). Steps
    may skip t's.

    Example:
        >>> Ancestral().order, Ancestral().stochastic
        (1, True)
    """

    order: ClassVar[int] = 1

    @property
    def stochastic(self) -> bool:
        """Always."""
        return True

    def move(self, plan: Plan) -> Move:
        """See `Multistep.move`."""
        lower = plan.posterior_variance()
        upper = -np.expm1(-2 * np.diff(np.log(plan.scale.z_0)))
        kept, parts = plan.move(lower)
        variance = {
            "posterior": lower,
            "upper": upper,
            "learned": _Learned(np.log(lower), np.log(upper)),
        }[plan.variance]
        return Move(plan.times[:-1], kept, (parts,), variance, drift_factors(plan))

    def noise_variance(self, tables: Move, estimate: NoisyState) -> jax.Array:
        """From the tables, or the model's mix of both ends.

        Raises:
            ValueError: a model of learned variance that gives no mix.
        """
        if not isinstance(tables.variance, _Learned):
            return tables.variance
        mix = estimate.prediction.variance_mix
        if mix is None:
            raise errors.invalid(
                "prediction.variance_mix",
                None,
                "(batch, *latent), as the model's variance is 'learned'",
                "give the denoiser that output, or choose 'posterior' or 'upper'",
            )
        return jnp.exp(mix * tables.variance.upper + (1 - mix) * tables.variance.lower)
