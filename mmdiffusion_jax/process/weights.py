"""Modality weights: how strongly each modality's encoding drives the process at each step."""

import dataclasses
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from mmdiffusion_jax import errors
from mmdiffusion_jax.process.checks import as_table, expect, expect_name, expect_names
from mmdiffusion_jax.process.schedules import Schedule

Rule = Callable[[Schedule], ArrayLike]
"""Schedule → T + 1 weights, the first 0; marginal ones unless `given` says otherwise."""
_ANEW = "make the weights from this schedule"


@dataclasses.dataclass(frozen=True)
class Constant:
    """The rule w̄_t = scale for t = 1 … T.

    Example:
        >>> from mmdiffusion_jax.process import linear_schedule
        >>> Constant(0.5)(linear_schedule(3)).tolist()
        [0.0, 0.5, 0.5, 0.5]
    """

    scale: float = 1.0

    def __call__(self, schedule: Schedule) -> np.ndarray:
        """T + 1 values in float64, the first 0."""
        return _from_first_step(np.full(schedule.num_steps, self.scale, np.float64))


@dataclasses.dataclass(frozen=True)
class Decay:
    """The rule w̄_t = scale · sqrt(ᾱ_t) for t = 1 … T: strongest where the state is clean.

    Example:
        >>> from mmdiffusion_jax.process import schedule_from_betas
        >>> Decay()(schedule_from_betas([0.19, 0.75])).round(2).tolist()
        [0.0, 0.9, 0.45]
    """

    scale: float = 1.0

    def __call__(self, schedule: Schedule) -> np.ndarray:
        """T + 1 values in float64, the first 0."""
        return _from_first_step(self.scale * np.sqrt(_table(schedule.alpha_bar)[1:]))


@dataclasses.dataclass(frozen=True)
class Bump:
    """The rule w̄_t = 2 · scale · sqrt(ᾱ_t (1 − ᾱ_t)): it peaks at `scale` where ᾱ_t = ½.

    Near zero at both ends, so that the last state is pure noise and the first the data.

    Example:
        >>> from mmdiffusion_jax.process import schedule_from_betas
        >>> Bump(3.0)(schedule_from_betas([0.5])).round(3).tolist()
        [0.0, 3.0]
    """

    scale: float = 1.0

    def __call__(self, schedule: Schedule) -> np.ndarray:
        """T + 1 values in float64, the first 0."""
        product = _table(schedule.alpha_bar) * _table(schedule.noise_variance)
        return _from_first_step(2 * self.scale * np.sqrt(product[1:]))


RULES: Mapping[str, Callable[..., Rule]] = {"constant": Constant, "decay": Decay, "bump": Bump}
"""The rules by their names in configs and in `modality_weights`."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class ModalityWeights:
    """The weights of every modality that drives the process.

    Attributes:
        transition: {name: w_t}, T + 1 values each, the first 0.
        marginal: {name: w̄_t}, T + 1 values each, the first 0.

    Example:
        >>> from mmdiffusion_jax import process
        >>> schedule = process.cosine_schedule(3)
        >>> weights = process.modality_weights(schedule, {"label": "bump"})
        >>> weights.transition["label"].shape, weights.marginal["label"].shape
        ((4,), (4,))
    """

    transition: dict[str, jax.Array]
    marginal: dict[str, jax.Array]


def modality_weights(
    schedule: Schedule, weights: Mapping[str, str | Rule | ArrayLike], given: str | None = None
) -> ModalityWeights:
    """Builds both kinds of weights from one: each is derived from the other.

    w̄_t = sqrt(r_t) (w̄_{t−1} + w_t)   and so   w_t = w̄_t / sqrt(r_t) − w̄_{t−1},   w_0 = w̄_0 = 0.

    Derived in float64 on the host, stored in JAX's default float type. A rule bounds the marginal
    weights, of which w_t is a small part: taken for w_t, a bump of scale 1 adds up to marginal
    weights in the hundreds over 1,000 steps.

    Args:
        schedule: the noise schedule the weights go with, its tables known outside jit.
        weights: for each modality the name of a rule ("constant", "decay", "bump"; scale 1), a
            rule such as `Bump(2.0)` or any function of the schedule, or T + 1 values, first 0.
        given: what all of `weights` are: "transition" (w_t) or "marginal" (w̄_t). Left out, rules
            are marginal, and T + 1 values are those of the transition.

    Raises:
        ValueError: no schedule, or a traced one, an unknown rule or `given`, values that are not
            T + 1 finite numbers that start with 0.

    Example:
        >>> from mmdiffusion_jax.process import schedule_from_betas
        >>> schedule = schedule_from_betas([0.75, 0.75])
        >>> built = modality_weights(schedule, {"label": [0.0, 1.0, 1.0]}, given="transition")
        >>> built.marginal["label"].tolist()
        [0.0, 0.5, 0.75]
        >>> modality_weights(schedule, {"label": "constant"}).marginal["label"].tolist()
        [0.0, 1.0, 1.0]
    """
    if given is not None:
        expect_name("given", given, ("transition", "marginal"))
    expect("schedule", schedule, Schedule)
    expect_names("weights", weights, "a rule or T + 1 values")
    root = np.sqrt(_table(schedule.retention))
    transition, marginal = {}, {}
    for name, rule in weights.items():
        values = _values(schedule, name, rule)
        other = np.zeros_like(values)
        if (given or _usual(rule)) == "transition":
            for t in range(1, len(values)):
                other[t] = root[t] * (other[t - 1] + values[t])
            pair = values, other
        else:
            other[1:] = values[1:] / root[1:] - values[:-1]
            pair = other, values
        transition[name], marginal[name] = (jnp.asarray(table) for table in pair)
    return ModalityWeights(transition=transition, marginal=marginal)


def check_weights(schedule: Schedule, weights: ModalityWeights) -> None:
    """Checks that the weights were made for this schedule.

    Their tables have its number of steps and, outside jit, follow w̄_t = sqrt(r_t) (w̄_{t−1} + w_t)
    with its retentions.

    Raises:
        ValueError: weights of another schedule; anything but weights.
    """
    expect("weights", weights, ModalityWeights, "make them by process.modality_weights")
    for name in sorted({*weights.transition, *weights.marginal}):
        sizes = [
            int(np.size(table[name])) if name in table else 0
            for table in (weights.transition, weights.marginal)
        ]
        if sizes != [schedule.num_steps + 1] * 2:
            raise errors.invalid(
                f"weights[{name!r}]",
                f"tables of {sizes[0]} and {sizes[1]} values",
                f"{schedule.num_steps + 1}, one for each t = 0 … T of the schedule",
                _ANEW,
            )
    tables = jax.tree.leaves((schedule, weights))
    if any(isinstance(table, jax.core.Tracer) for table in tables):
        return
    root = np.sqrt(_table(schedule.retention)[1:])
    for name, marginal in weights.marginal.items():
        after, before, step = _table(marginal)[1:], _table(marginal)[:-1], weights.transition[name]
        parts = root * before, root * _table(step)[1:]
        # Tables in float32 can be off by that much.
        error, size = np.abs(after - sum(parts)), np.abs(after) + sum(map(np.abs, parts))
        if np.any(error > 1e-4 * size + 1e-6 * np.max(size, initial=0)):
            raise errors.invalid(
                f"weights[{name!r}]",
                "values of another schedule",
                "marginal weights that follow from the transition's by this schedule",
                _ANEW,
            )


def _usual(rule: str | Rule | ArrayLike) -> str:
    """What weights are where nobody says it; see `modality_weights`."""
    return "marginal" if isinstance(rule, str) or callable(rule) else "transition"


def _values(schedule: Schedule, name: str, rule: str | Rule | ArrayLike) -> np.ndarray:
    argument = f"weights[{name!r}]"
    if isinstance(rule, str):
        expect_name(argument, rule, RULES)
        rule = RULES[rule]()
    values = as_table(argument, rule(schedule) if callable(rule) else rule)
    if values.shape != (schedule.num_steps + 1,):
        raise errors.invalid(
            argument,
            f"shape {values.shape}",
            f"shape ({schedule.num_steps + 1},), one value for each t = 0 … T",
            "give T + 1 values, the first 0, or a rule",
        )
    if not np.all(np.isfinite(values)) or values[0] != 0:
        got = f"{values[0]} at t = 0" if values[0] != 0 else "a value that is not finite"
        raise errors.invalid(
            argument, got, "finite values, the first 0", "the clean state has no drift yet"
        )
    return values


def _table(values: jax.Array) -> np.ndarray:
    return as_table("schedule", values)


def _from_first_step(values: np.ndarray) -> np.ndarray:
    return np.concatenate([[0.0], values])
