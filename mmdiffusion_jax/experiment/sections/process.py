"""The diffusion process of an experiment."""

import dataclasses
from collections.abc import Callable, Mapping

from mmdiffusion_jax import process, ranges
from mmdiffusion_jax.experiment.sections.choices import Choice, complete, make
from mmdiffusion_jax.experiment.sections.reading import under
from mmdiffusion_jax.process import Process

SCHEDULES: Mapping[str, Callable[..., process.Schedule]] = {
    "linear": process.linear_schedule,
    "cosine": process.cosine_schedule,
    "sigmoid": process.sigmoid_schedule,
}
"""The noise schedules by the names that configs know them by."""

# More steps than any published schedule has, and few enough for a table of each.
_MOST_STEPS = 10**6


@dataclasses.dataclass(frozen=True)
class ProcessOptions:
    """The noise schedule, the weights of modalities in z_t, and what the network predicts.

    Attributes:
        num_steps: T, the number of diffusion steps.
        schedule: {"kind": a name in `SCHEDULES`, **its parameters}, or the name alone.
        weights: {secondary: {"rule": a name in `process.RULES`, **its fields}}.
        given: whether the rules give the weights of the "transition" or of the "marginal".
        target: what the network predicts, one of `process.TARGETS`.
        variance: of p(z_{t−1} | z_t), one of `process.VARIANCES`.
        shares: {modality: its share in z_0}; empty for the primary alone.

    Raises:
        ValueError: an unknown name or field, or a number out of its range.

    Example:
        >>> ProcessOptions(schedule="linear(beta_end=0.01)").schedule
        {'kind': 'linear', 'beta_start': 0.0001, 'beta_end': 0.01}
    """

    num_steps: int = 100
    schedule: Choice = dataclasses.field(default="cosine", metadata={"table": SCHEDULES})
    weights: Mapping[str, Choice] = dataclasses.field(default_factory=dict)
    given: str = "marginal"
    target: str = "noise"
    variance: str = "posterior"
    shares: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        ranges.check_whole("process.num_steps", self.num_steps, 1, _MOST_STEPS)
        object.__setattr__(self, "schedule", complete("process.schedule", self.schedule, SCHEDULES))
        rules = {}
        for name, rule in self.weights.items():
            path = f"process.weights.{name}"
            rules[name] = complete(path, rule, process.RULES, key="rule")
            ranges.check_real(f"{path}.scale", rules[name]["scale"], 0)
        object.__setattr__(self, "weights", rules)
        for key, known in (
            ("given", ("transition", "marginal")),
            ("target", process.TARGETS),
            ("variance", process.VARIANCES),
        ):
            ranges.check_one_of(f"process.{key}", getattr(self, key), known)
        for name, share in self.shares.items():
            ranges.check_real(f"process.shares.{name}", share, 0)

    def make(self) -> Process:
        """The forward process.

        Raises:
            ValueError: parameters that make no schedule of so many steps.
        """
        with under("process.schedule"):
            schedule = make(self.schedule, SCHEDULES, self.num_steps)
        rules = {name: make(x, process.RULES, key="rule") for name, x in self.weights.items()}
        return Process(schedule, process.modality_weights(schedule, rules, given=self.given))
