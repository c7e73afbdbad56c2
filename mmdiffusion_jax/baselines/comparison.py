"""The arms of a comparison side by side: table, verdict and plot."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mmdiffusion_jax import files

HigherIsBetter = Mapping[str, bool | None]
"""{last part of a figure's name: which way it goes}; None for neither."""

BUDGETS = ("steps", "flops", "time")
"""What every arm has the same of: steps of each training run, operations in all, or time in all."""

_TITLES = {"steps": "steps of each run", "flops": "operations in all", "time": "time in all"}


@dataclasses.dataclass(frozen=True)
class ArmRun:
    """One arm with one seed.

    Attributes:
        budget: a name of `BUDGETS`.
        arm: its name.
        seed: of training and data order.
        steps: {part: steps of training}.
        figures: {figure: value} of all parts.
        num_examples: {figure: the test examples or samples that it counts}.
    """

    budget: str
    arm: str
    seed: int
    steps: Mapping[str, int]
    figures: Mapping[str, float]
    num_examples: Mapping[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a step of training costs.

    Attributes:
        flops: floating-point operations, counted by the compiler.
        seconds: median wall time, measured in turns with the other parts.
        num_parameters: of the model.
    """

    flops: float
    seconds: float
    num_parameters: int


def equal_steps(
    costs: Mapping[str, Mapping[str, Cost]], reference: str, num_steps: int, budget: str = "flops"
) -> dict[str, int]:
    """{arm: steps of each part}, with which each arm takes as much of a budget as the reference.

    Each part of the reference has `num_steps`. An arm of several parts, one model a task, shares
    operations or time among them: each part gets num_steps · (Σ flops of the reference) / (Σ flops
    of the arm), or the same of seconds. `costs` are {arm: {part: cost}}, `budget` one of `BUDGETS`.

    Example:
        >>> cost = Cost(flops=1.0, seconds=1.0, num_parameters=1)
        >>> equal_steps({"a": {"x": cost}, "b": {"x": cost, "y": cost}}, "a", 100)
        {'a': 100, 'b': 50}
    """
    if budget == "steps":
        return dict.fromkeys(costs, num_steps)
    field = {"flops": "flops", "time": "seconds"}[budget]
    whole = {arm: sum(getattr(x, field) for x in parts.values()) for arm, parts in costs.items()}
    return {arm: max(1, round(num_steps * whole[reference] / each)) for arm, each in whole.items()}


def shown_figures(runs: Sequence[ArmRun], higher_is_better: HigherIsBetter) -> list[str]:
    """The names of the figures of samples that two arms have, or the only arm."""
    arms: dict[str, set[str]] = {}
    for run in runs:
        for name in run.figures:
            if _last(name) in higher_is_better and not name.startswith("judge/"):
                arms.setdefault(name, set()).add(run.arm)
    several = len({run.arm for run in runs}) > 1
    return [name for name, having in arms.items() if len(having) > 1 or not several]


def verdict(ours: Sequence[float], theirs: Sequence[float], higher_is_better: bool) -> str:
    """Whether one arm is better than another: by more than two standard errors of the difference.

    `ours` and `theirs` are a figure of both, seed by seed. The verdict is "better", "worse", "no
    difference", or "one seed" where an arm has fewer than two, from which no error follows.

    Example:
        >>> verdict([0.9, 0.91, 0.92], [0.8, 0.81, 0.82], higher_is_better=True)
        'better'
        >>> verdict([0.9, 0.8], [0.85, 0.84], higher_is_better=True)
        'no difference'
    """
    if min(len(ours), len(theirs)) < 2:
        return "one seed"
    difference = float(np.mean(ours) - np.mean(theirs)) * (1 if higher_is_better else -1)
    error = math.sqrt(np.var(ours, ddof=1) / len(ours) + np.var(theirs, ddof=1) / len(theirs))
    if abs(difference) <= 2 * error:
        return "no difference"
    return "better" if difference > 0 else "worse"


def arms_table(
    runs: Sequence[ArmRun],
    costs: Mapping[str, Mapping[str, Cost]],
    reference: str,
    higher_is_better: HigherIsBetter,
) -> str:
    """A table in Markdown for each budget: mean ± standard deviation over the seeds.

    It has a row for each figure and a column for each arm. The second column says how many test
    examples or samples a figure counts. Beside each arm but the reference it says whether the
    reference is better or worse, by `verdict`. Below are the steps and the cost of the arms, times
    as ratios to the reference.
    """
    arms = list(costs)
    lines: list[str] = []
    for budget in dict.fromkeys(run.budget for run in runs):
        rows = [run for run in runs if run.budget == budget]
        seeds = len({run.seed for run in rows})
        lines += [
            f"Equal {_TITLES[budget]}, "
            f"{seeds} seed{'s' if seeds > 1 else ''}; in brackets, how {reference} compares.",
            "",
            "| figure | examples | " + " | ".join(arms) + " |",
            "|---|---:|" + "---:|" * len(arms),
        ]
        for name in shown_figures(rows, higher_is_better):
            values = {arm: _values(rows, arm, name) for arm in arms}
            cells = [_cell(values, arm, reference, higher_is_better[_last(name)]) for arm in arms]
            row = (_title(name, higher_is_better), _counts(rows, name), *cells)
            lines.append("| " + " | ".join(row) + " |")
        taken = {run.arm: run.steps for run in rows}
        steps = [" + ".join(str(n) for n in taken.get(arm, {}).values()) or "–" for arm in arms]
        lines += ["| steps | | " + " | ".join(steps) + " |"]
        for title, field in (("operations", "flops"), ("time", "seconds")):
            of_steps = {
                arm: sum(
                    n * getattr(costs[arm][part], field) for part, n in taken.get(arm, {}).items()
                )
                for arm in arms
            }
            base = of_steps.get(reference, 0.0)
            cells = [f"× {of_steps[arm] / base:.2f}" if base else "–" for arm in arms]
            lines.append(f"| {title} of training | | " + " | ".join(cells) + " |")
        lines.append("")
    lines += ["| part | parameters | operations a step | time a step |", "|---|---:|---:|---:|"]
    first = next(iter(costs[reference].values()))
    for arm, parts in costs.items():
        for part, cost in parts.items():
            lines.append(
                f"| {arm}/{part} | {cost.num_parameters:,} | {cost.flops / 1e9:.3g} G "
                f"(× {cost.flops / first.flops:.3f}) | × {cost.seconds / first.seconds:.2f} |"
            )
    return "\n".join(lines)


def ratios_table(runs: Sequence[ArmRun], reference: str, higher_is_better: HigherIsBetter) -> str:
    """A table in Markdown: mean ± standard deviation over the seeds, and ratios of the means.

    It has a row for each figure and a column for each arm. In brackets stands the mean over that of
    the reference, which is the name of an arm.

    Example:
        >>> runs = [
        ...     ArmRun("steps", arm, 0, {}, {"label_given_image/accuracy": x})
        ...     for arm, x in (("generated", 0.6), ("real", 0.8))
        ... ]
        >>> print(ratios_table(runs, "real", {"accuracy": True}))
        | figure | generated | real |
        |---|---:|---:|
        | label_given_image/accuracy ↑ | 0.600 (× 0.75) | 0.800 |
    """
    arms = list(dict.fromkeys(run.arm for run in runs))
    lines = ["| figure | " + " | ".join(arms) + " |", "|---|" + "---:|" * len(arms)]
    for name in shown_figures(runs, higher_is_better):
        base, cells = _values(runs, reference, name), []
        for arm in arms:
            values = _values(runs, arm, name)
            cell = _cell({arm: values}, arm, arm, None)
            if arm != reference and values and base and np.mean(base):
                cell += f" (× {np.mean(values) / np.mean(base):.2f})"
            cells.append(cell)
        lines.append(f"| {_title(name, higher_is_better)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def plot_arms(
    runs: Sequence[ArmRun], arms: Sequence[str], higher_is_better: HigherIsBetter, file: str | Path
) -> None:
    """Draws each figure of each arm to a PNG file: dots are seeds, bars their mean."""
    from matplotlib.figure import Figure

    names = shown_figures(runs, higher_is_better)
    budgets = list(dict.fromkeys(run.budget for run in runs))
    columns = min(4, max(1, len(names)))
    rows = max(1, -(-len(names) // columns))
    figure = Figure(figsize=(3.2 * columns, 2.7 * rows), layout="constrained")
    panels = np.atleast_1d(figure.subplots(rows, columns)).reshape(-1)
    for axes, name in zip(panels, names):
        for place, budget in enumerate(budgets):
            for index, arm in enumerate(arms):
                values = _values([run for run in runs if run.budget == budget], arm, name)
                if not values:
                    continue
                at = index + (place - (len(budgets) - 1) / 2) * 0.35
                axes.bar(at, np.mean(values), 0.3, color=f"C{place}", alpha=0.5)
                axes.plot([at] * len(values), values, "k.", markersize=4)
        axes.set_xticks(range(len(arms)), arms, rotation=20, fontsize="small")
        axes.set_title(_title(name, higher_is_better), fontsize="small")
        axes.grid(axis="y", alpha=0.3)
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    handles = [("C" + str(place), f"equal {budget}") for place, budget in enumerate(budgets)]
    from matplotlib.patches import Patch

    figure.legend(
        handles=[Patch(color=color, alpha=0.5, label=label) for color, label in handles],
        loc="outside lower center",
        ncols=len(handles),
        fontsize="small",
    )
    with files.replacing(file) as stream:
        figure.savefig(stream, dpi=120, format="png")


def _values(runs: Sequence[ArmRun], arm: str, name: str) -> list[float]:
    return [run.figures[name] for run in runs if run.arm == arm and name in run.figures]


def _counts(runs: Sequence[ArmRun], name: str) -> str:
    """How many examples the runs count in a figure."""
    counts = sorted({run.num_examples[name] for run in runs if name in run.num_examples})
    return "–" if not counts else f"{counts[0]:,}" + (f" … {counts[-1]:,}" if counts[1:] else "")


def _last(name: str) -> str:
    """The part of a figure's name that says what kind of figure it is."""
    return name.split("/")[-1]


def _title(name: str, higher_is_better: HigherIsBetter) -> str:
    """A figure's name and which way it goes."""
    higher = higher_is_better[_last(name)]
    return name if higher is None else f"{name} {'↑' if higher else '↓'}"


def _cell(
    values: Mapping[str, list[float]], arm: str, reference: str, higher_is_better: bool | None
) -> str:
    of_arm, of_reference = values[arm], values.get(reference, [])
    if not of_arm:
        return "–"
    text = f"{np.mean(of_arm):.3f}"
    if len(of_arm) > 1:
        text += f" ± {np.std(of_arm, ddof=1):.3f}"
    if arm == reference or not of_reference or higher_is_better is None:
        return text
    return f"{text} ({verdict(of_reference, of_arm, higher_is_better)})"
