"""Options of all kinds of guidance: at which noise levels they act, and how strongly."""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from mmdiffusion_jax import errors
from mmdiffusion_jax.model import NoisyState
from mmdiffusion_jax.process import Schedule
from mmdiffusion_jax.process.checks import described, expect_name, expect_number
from mmdiffusion_jax.process.forward import at
from mmdiffusion_jax.sampling.query import Query

EVERYWHERE = (0.0, math.inf)
"""The interval of all noise levels."""


@dataclasses.dataclass(frozen=True)
class GuidanceOptions:
    """How a guided ẑ_0 replaces the plain one; the options of `classifier_free_guidance`."""

    interval: tuple[float, float]
    rescale: float
    limit: float

    def __post_init__(self) -> None:
        expected = "(low, high) with 0 <= low < high, in σ"
        if not isinstance(self.interval, tuple | list) or len(self.interval) != 2:
            raise errors.invalid("interval", described(self.interval), expected, "give two numbers")
        low, high = (expect_number("interval", x, expected, lambda _: True) for x in self.interval)
        if not 0 <= low < high:
            raise errors.invalid("interval", self.interval, expected, "swap or widen it")
        expect_number("rescale", self.rescale, "a number in [0, 1]", lambda x: 0 <= x <= 1)
        expect_number("limit", self.limit, "a number above 0", lambda x: x > 0, "raise it")

    def amplify(
        self, schedule: Schedule, plain: NoisyState, without: jax.Array, scale: ArrayLike
    ) -> NoisyState:
        """The plain state with ẑ_0 ← without + scale · (ẑ_0 − without)."""
        return self.replace(schedule, plain, without + scale * (plain.clean.z_0 - without))

    def replace(self, schedule: Schedule, plain: NoisyState, guided: jax.Array) -> NoisyState:
        """The plain state with the guided ẑ_0."""
        z_0, t = plain.clean.z_0, plain.t
        axes = tuple(range(1, z_0.ndim))
        if self.limit < math.inf:
            added = guided - z_0
            size = jnp.sqrt(jnp.mean(added**2, axis=axes, keepdims=True))
            guided = z_0 + added * jnp.minimum(1, self.limit / jnp.maximum(size, 1e-12))
        if self.rescale:
            before, after = (jnp.std(x, axis=axes, keepdims=True) for x in (z_0, guided))
            # An estimate of one value, as a constant map, has no deviation to be brought back to.
            ratio = jnp.where(before > 0, before / jnp.maximum(after, 1e-12), 1)
            guided = guided * (self.rescale * ratio + (1 - self.rescale))
        if tuple(self.interval) != EVERYWHERE:
            sigma = jnp.sqrt(1 / at(schedule.snr, t, z_0))
            inside = (sigma >= self.interval[0]) & (sigma <= self.interval[1])
            guided = jnp.where(inside, guided, z_0)
        return plain.with_z_0(guided)


def check_modality(query: Query, name: str) -> None:
    """Checks that the states can carry a modality that is to guide.

    Raises:
        ValueError: a name that is no secondary modality of the model.
    """
    expect_name(
        "guidance",
        name,
        query.diffusion.model.secondaries,
        "only the modalities that drive the process can guide it",
        none="the model has no secondary modality",
    )
