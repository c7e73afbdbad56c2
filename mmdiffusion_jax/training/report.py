"""The report of a step, the means that are logged of several, and why a step was not finite."""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmdiffusion_jax.means import Mean, Scalar, Worst, join, values
from mmdiffusion_jax.training.guard import Verdict

WORST_T = "worst_t"
"""The scalar of a loss with the t that was drawn for its worst example; no mean."""


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["numbers"], meta_fields=["structure"]
)
@dataclasses.dataclass(frozen=True)
class StepReport:
    """The report of a step, made by `StepReport.of`.

    All its numbers are one array, since the host would take longer for dozens of scalars a step
    than for all else that it does between two of them.

    Attributes:
        numbers: the scalars one after another, (count,).
        structure: that of the three pytrees together whose scalars they are.

    Example:
        >>> report = StepReport.of({"loss": 0.5}, Verdict(0, 0, 0), {"image": True})
        >>> float(report.scalars["loss"]), report.numbers.shape
        (0.5, (5,))
    """

    numbers: Any
    structure: Any

    @classmethod
    def of(
        cls, scalars: Mapping[str, Scalar], verdict: Verdict, finite: Mapping[str, Any]
    ) -> "StepReport":
        """The report of these; of arrays on devices it is one, else one of NumPy in float64.

        Args:
            scalars: {name: scalar}, `loss` among them.
            verdict: whether it was left out, see `guard.watch`.
            finite: {column: whether all its numbers are finite}, for columns of floats.
        """
        leaves, structure = jax.tree.flatten((dict(scalars), verdict, dict(finite)))
        if any(isinstance(leaf, jax.Array) for leaf in leaves):
            wide = any(getattr(leaf, "dtype", None) == np.float64 for leaf in leaves)
            dtype = np.float64 if wide else np.float32
            return cls(jnp.stack([jnp.asarray(leaf, dtype) for leaf in leaves]), structure)
        return cls(np.array(leaves, np.float64), structure)

    @property
    def scalars(self) -> Mapping[str, Scalar]:
        """{name: scalar}, `loss` among them."""
        return self._parts[0]

    @property
    def verdict(self) -> Verdict:
        """Whether the step was left out, see `guard.watch`."""
        return self._parts[1]

    @property
    def finite(self) -> Mapping[str, Any]:
        """{column: whether all its numbers are finite}, for columns of floats."""
        return self._parts[2]

    @functools.cached_property
    def _parts(self) -> tuple[dict[str, Scalar], Verdict, dict[str, Any]]:
        return jax.tree.unflatten(self.structure, list(self.numbers))

    def to_json(self) -> dict[str, Any]:
        """Nested dictionaries of strings, as JSON has no NaN; they give back every digit."""
        scalars, verdict, finite = jax.tree.map(lambda x: repr(float(x)), self._parts)
        return {
            "scalars": {
                name: scalar if isinstance(scalar, str) else dataclasses.asdict(scalar)
                for name, scalar in scalars.items()
            },
            "verdict": dataclasses.asdict(verdict),
            "finite": finite,
        }

    @classmethod
    def from_json(cls, report: Mapping[str, Any]) -> "StepReport":
        """The report that `to_json` was called of.

        Example:
            >>> report = StepReport.of({"loss": Mean(1.0, 2.0)}, Verdict(0, 0, 0), {})
            >>> float(StepReport.from_json(report.to_json()).scalars["loss"].value)
            0.5
        """

        def scalar(value: Any) -> Scalar:
            if not isinstance(value, Mapping):
                return float(value)
            kind = Mean if "total" in value else Worst
            return kind(**{field: float(x) for field, x in value.items()})

        return cls.of(
            scalars={name: scalar(value) for name, value in report["scalars"].items()},
            verdict=Verdict(**{name: float(x) for name, x in report["verdict"].items()}),
            finite={column: float(x) for column, x in report["finite"].items()},
        )


def summarise(reports: Sequence[StepReport]) -> dict[str, float]:
    """Means over the steps that were not left out, and how many were left out or spikes.

    A mean in which no example of these steps counts is missing. The reports are on the host. Where
    the first come from a checkpoint of an earlier version, whose scalars had other names, the means
    are of those after them.
    """
    reports = [report for report in reports if report.structure == reports[-1].structure]
    # In double precision, whether a value comes from a device or from a checkpoint's JSON.
    numbers = np.stack([np.asarray(report.numbers, np.float64) for report in reports], axis=1)
    all_steps = StepReport(numbers, reports[0].structure)
    taken = all_steps.verdict.skipped == 0
    taken[-1] |= not taken.any()
    stacked: dict[str, Scalar] = jax.tree.map(lambda x: x[taken], dict(all_steps.scalars))
    stacked.pop(WORST_T, None)
    means = values(
        {
            name: scalar
            for name, scalar in join(stacked).items()
            if not isinstance(scalar, Mean) or scalar.count
        }
    )
    return {name: float(mean) for name, mean in means.items()} | {
        "skipped_steps": float(all_steps.verdict.skipped.sum()),
        "loss_spikes": float(all_steps.verdict.spike.sum()),
    }


def diagnose(step: int, report: StepReport) -> str:
    """Says where a step that was not finite went wrong: in the data, a modality or the gradients.

    Example:
        >>> scalars = {"loss": float("nan"), "label/loss": Mean(float("nan"), 2), "worst_t": 93.0}
        >>> diagnose(7, StepReport.of(scalars, Verdict(1, 1, 0), {"image": True}))
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
