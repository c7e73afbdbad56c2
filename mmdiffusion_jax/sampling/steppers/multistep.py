"""The contract of a stepper, and the linear multistep rule that most of them are."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from mmdiffusion_jax.model import CleanState, NoisyState
from mmdiffusion_jax.sampling.plan import Plan
from mmdiffusion_jax.sampling.query import total

DenoiseAt = Callable[[jax.Array, jax.Array], NoisyState]
"""(t, a scalar integer; z_t (batch, *latent)) → the estimates of the parts of z_t."""


class Stepper(Protocol):
    """Goes from one state of a grid to the next."""

    @property
    def order(self) -> int:
        """p, where the error falls as h^p with the largest gap h between visited log-SNRs.

        Of a stochastic stepper it is the error of the moments of the samples, else of the samples.
        """

    @property
    def stochastic(self) -> bool:
        """Whether steps add noise."""

    @property
    def calls(self) -> int:
        """How often a step calls the model."""

    def init(self, plan: Plan, like: CleanState) -> tuple[Any, Any]:
        """The tables of all steps, and the state of the stepper before the first.

        Args:
            plan: the grid with n points.
            like: arrays of the shapes that the clean states will have.

        Returns:
            Tables whose leaves have a leading axis n − 1, one entry a step, and the first state.
        """

    def step(
        self, tables: Any, z_t: jax.Array, denoise: DenoiseAt, noise: jax.Array, state: Any
    ) -> tuple[jax.Array, Any]:
        """One step.

        Args:
            tables: the entries of this step.
            z_t: (batch, *latent).
            denoise: estimates the parts of a state.
            noise: (batch, *latent), standard normal; zeros where steps add none.
            state: of the stepper, from the step before.

        Returns:
            z_s and the state for the next step.
        """


class Move(NamedTuple):
    """The tables of a linear multistep rule, one entry a step.

    Attributes:
        t: where the step starts.
        kept: κ, the factor of z_t.
        parts: the factors of the signal's parts at this and at earlier estimates, newest first.
        variance: of the noise that is added.
        drift: {secondary: w_{t→s}²}, the factor of the variance of its encoding in the variance of
            the noise; w_{t→s} = w̄_t sqrt(ᾱ_s / ᾱ_t) − w̄_s is the weight from s to t.
    """

    t: Any
    kept: Any
    parts: tuple[CleanState, ...]
    variance: Any
    drift: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Multistep:
    """z_s = κ z_t + Σ_j Σ_c f_{j,c} C^{(j)} + sqrt(v) ξ over this and earlier estimates j.

    All factors are computed on the host, so a step is one call of the model and a weighted sum. A
    subclass gives them in `move`.
    """

    calls: ClassVar[int] = 1

    @property
    def stochastic(self) -> bool:
        """Whether steps add noise."""
        raise NotImplementedError

    def move(self, plan: Plan) -> Move:
        """The tables, in float64."""
        raise NotImplementedError

    def noise_variance(self, tables: Move, estimate: NoisyState) -> jax.Array:
        """The variance of the noise of a step; from the tables, unless the model learns it."""
        del estimate
        return tables.variance

    def init(self, plan: Plan, like: CleanState) -> tuple[Move, Any]:
        """Tables in the dtype of `like`, and an empty history."""
        move = self.move(plan)
        dtype = like.z_0.dtype
        tables = jax.tree.map(
            lambda x: jnp.asarray(x, jnp.int32 if x.dtype == np.int32 else dtype), move
        )
        empty = jax.tree.map(jnp.zeros_like, like)
        return tables, (empty,) * (len(move.parts) - 1)

    def step(
        self, tables: Move, z_t: jax.Array, denoise: DenoiseAt, noise: jax.Array, state: Any
    ) -> tuple[jax.Array, Any]:
        """See `Stepper.step`."""
        estimate = denoise(tables.t, z_t)
        history = (estimate.clean, *state)
        z_s = tables.kept * z_t + total(tables.parts, history)
        if self.stochastic:
            variance = self.noise_variance(tables, estimate)
            if variances := estimate.encoding_variances:
                variance = variance + total(
                    {name: tables.drift[name] for name in variances}, variances
                )
            z_s = z_s + jnp.sqrt(variance) * noise
        return z_s, history[:-1]


def drift_factors(plan: Plan) -> dict[str, np.ndarray]:
    """{secondary: w_{t→s}²} of every step, (n − 1,) each; see `Move.drift`."""
    ratio = plan.scale.z_0[1:] / plan.scale.z_0[:-1]
    return {name: (w[:-1] * ratio - w[1:]) ** 2 for name, w in plan.scale.encodings.items()}
