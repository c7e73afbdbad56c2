"""The report of a step, the means that are logged of several, and why a step was not finite."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from mmdiffusion_jax.means import Mean, Scalar, Worst, join, values
from mmdiffusion_jax.training.guard import Verdict

WORST_T = "worst_t"
"""The scalar of a loss with the t that was drawn for its worst example; no mean."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class StepReport:
    """The report of a step.

    Attributes:
        scalars: {name: scalar}, `loss` among them.
        verdict: whether it was left out, see `guard.watch`.
        finite: {column: whether all its numbers are finite}, for columns of floats.
    """

    scalars: Mapping[str, Scalar]
    verdict: Verdict
    finite: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Nested dictionaries of strings, as JSON has no NaN; they give back every digit."""
        return jax.tree.map(lambda x: repr(float(x)), dataclasses.asdict(self))

    @classmethod
    def from_json(cls, report: Mapping[str, Any]) -> "StepReport":
        """The report that `to_json` was called of.

        Example:
            >>> verdict = Verdict(*(np.float32(0) for _ in range(3)))
            >>> report = StepReport({"loss": Mean(np.float32(1), np.float32(2))}, verdict, {})
            >>> float(StepReport.from_json(report.to_json()).scalars["loss"].value)
            0.5
        """

        def scalar(value: Any) -> Scalar:
            if not isinstance(value, Mapping):
                return float(value)
            kind = Mean if "total" in value else Worst
            return kind(**{field: float(x) for field, x in value.items()})

        return cls(
            scalars={name: scalar(value) for name, value in report["scalars"].items()},
            verdict=Verdict(**{name: float(x) for name, x in report["verdict"].items()}),
            finite={column: float(x) for column, x in report["finite"].items()},
        )


def summarise(reports: Sequence[StepReport]) -> dict[str, float]:
    """Means over the steps that were not left out, and how many were left out or spikes.

    A mean in which no example of these steps counts is missing. The reports are on the host.
    """
    taken = [report for report in reports if not report.verdict.skipped] or reports[-1:]
    # In double precision, whether a value comes from a device or from a checkpoint's JSON.
    stacked = jax.tree.map(
        lambda *each: np.array(each, np.float64), *(report.scalars for report in taken)
    )
    stacked.pop(WORST_T, None)
    means = values(
        {
            name: scalar
            for name, scalar in join(stacked).items()
            if not isinstance(scalar, Mean) or scalar.count
        }
    )
    return {name: float(mean) for name, mean in means.items()} | {
        "skipped_steps": float(sum(report.verdict.skipped for report in reports)),
        "loss_spikes": float(sum(report.verdict.spike for report in reports)),
    }


def diagnose(step: int, report: StepReport) -> str:
    """Says where a step that was not finite went wrong: in the data, a modality or the gradients.

    Example:
        >>> scalars = {"loss": float("nan"), "label/loss": Mean(float("nan"), 2), "worst_t": 93.0}
        >>> diagnose(7, StepReport(scalars, Verdict(1, 1, 0), {"image": True}))
        "loss nan at step 7; not finite: 'label/loss'; at t = 93"
    """
    scalars = {name: float(x) for name, x in values(report.scalars).items()}
    worst_t = scalars.pop(WORST_T, math.nan)
    words = [f"loss {scalars.pop('loss')} at step {step}"]
    columns = [repr(column) for column, finite in report.finite.items() if not finite]
    if columns:
        words.append(f"numbers that are not finite in the data: {', '.join(columns)}")
    parts = [repr(name) for name, value in scalars.items() if not math.isfinite(value)]
    if parts:
        words.append(f"not finite: {', '.join(parts)}")
    if math.isfinite(worst_t):
        words.append(f"at t = {worst_t:.0f}")
    return "; ".join(words)
