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

Ask = Callable[[jax.Array, jax.Array], NoisyState]
"""(t, a scalar integer; z_t (batch, *latent)) → what z_t is taken to be made of."""


class Stepper(Protocol):
    """Goes from one state of a grid to the next.

    Attributes:
        order: p, where the error falls as h^p with the largest gap h between visited log-SNRs: of
            the trajectory, or for a stochastic stepper of the moments of the samples.
        stochastic: whether steps add noise.
        calls: calls of the model a step.
    """

    @property
    def order(self) -> int:
        """See above."""
        ...

    @property
    def stochastic(self) -> bool:
        """See above."""
        ...

    @property
    def calls(self) -> int:
        """See above."""
        ...

    def init(self, plan: Plan, like: CleanState) -> tuple[Any, Any]:
        """What a run needs.

        Args:
            plan: the grid with n points.
            like: arrays of the shapes that the clean states will have.

        Returns:
            Tables whose leaves have a leading axis n − 1, one entry a step, and the first state.
        """
        ...

    def step(
        self, tables: Any, z_t: jax.Array, ask: Ask, noise: jax.Array, state: Any
    ) -> tuple[jax.Array, Any]:
        """One step.

        Args:
            tables: this step's entries.
            z_t: (batch, *latent).
            ask: reads a state.
            noise: (batch, *latent), standard normal; unused where not stochastic.
            state: what the step before left.

        Returns:
            z_s and the state for the next step.
        """
        ...


class Move(NamedTuple):
    """The tables of a linear multistep rule, one entry a step.

    Attributes:
        t: where the step starts.
        kept: κ, the factor of z_t.
        parts: the factors of the signal's parts at this and at earlier estimates, newest first.
        variance: of the noise that is added.
        drift: {secondary: w_{t→s}²}, what the variance of its encoding adds to the noise's where
            that is asked for; w_{t→s} = w̄_t sqrt(ᾱ_s / ᾱ_t) − w̄_s is the weight from s to t.
    """

    t: Any
    kept: Any
    parts: tuple[CleanState, ...]
    variance: Any
    drift: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Multistep:
    """z_s = κ z_t + Σ_j Σ_c f_{j,c} C^{(j)} + sqrt(v) ξ over this and earlier estimates j.

    Everything before the data is known on the host, so a step is one call and a weighted sum. A
    subclass gives the tables in `move`.
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
        """The variance of the noise a step adds; from the tables, unless the model learns it."""
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
        self, tables: Move, z_t: jax.Array, ask: Ask, noise: jax.Array, state: Any
    ) -> tuple[jax.Array, Any]:
        """See `Stepper.step`."""
        estimate = ask(tables.t, z_t)
        history = (estimate.clean, *state)
        z_s = tables.kept * z_t + total(tables.parts, history)
        if self.stochastic:
            variance = self.noise_variance(tables, estimate)
            if estimate.spread:
                variance = variance + total(
                    {name: tables.drift[name] for name in estimate.spread}, estimate.spread
                )
            z_s = z_s + jnp.sqrt(variance) * noise
        return z_s, history[:-1]


def drift_factors(plan: Plan) -> dict[str, np.ndarray]:
    """{secondary: w_{t→s}²} of every step, (n − 1,) each; see `Move.drift`."""
    ratio = plan.scale.z_0[1:] / plan.scale.z_0[:-1]
    return {name: (w[:-1] * ratio - w[1:]) ** 2 for name, w in plan.scale.encodings.items()}
