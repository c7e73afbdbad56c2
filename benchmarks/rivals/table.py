"""The runs of all contenders side by side, in Markdown."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from mmdiffusion_jax.evaluation import HIGHER_IS_BETTER

Values = Mapping[tuple[str, str], Sequence[float]]
"""{(contender, calls): a figure of each seed}."""


@dataclasses.dataclass(frozen=True)
class Run:
    """One contender with one seed.

    Attributes:
        contender: its name.
        seed: of initialisation, data order and noise.
        steps: of training.
        seconds: that training took.
        num_parameters: of the model.
        versions: of its libraries.
        figures: {calls for each sample: {figure: value}}.
        seconds_per_sample: {calls for each sample: seconds of a joint one}.
    """

    contender: str
    seed: int
    steps: int
    seconds: float
    num_parameters: int
    versions: str
    figures: Mapping[str, Mapping[str, float]]
    seconds_per_sample: Mapping[str, float]


def table_of(runs: Sequence[Run], step_seconds: Mapping[str, float], budget: str) -> str:
    """A row for each figure, a column for each contender and number of calls.

    A cell has the mean ± the standard deviation over the seeds, and, behind ×, the mean over that
    of the first contender with as many calls.

    Args:
        runs: of all contenders; the first is the one that the others are held against.
        step_seconds: {contender: seconds of a step, measured in turns}.
        budget: what all have the same of, "steps" or "time".
    """
    names = list(dict.fromkeys(run.contender for run in runs))
    calls = list(runs[0].figures)
    columns = [(name, count) for count in calls for name in names]
    figures = dict.fromkeys(name for run in runs for of in run.figures.values() for name in of)
    rows: list[tuple[str, Values]] = []
    for figure in figures:
        values = {
            (name, count): [
                run.figures[count][figure]
                for run in runs
                if run.contender == name and figure in run.figures.get(count, {})
            ]
            for name, count in columns
        }
        rows.append((_title(figure), values))
    rows += _costs(runs, columns, step_seconds)
    seeds = len({run.seed for run in runs})
    lines = [
        f"Equal {budget} of training, {seeds} seed{'s' if seeds > 1 else ''}; "
        f"behind ×, the ratio to {names[0]} with as many calls.",
        "",
        "| figure | " + " | ".join(f"{name}, {count} calls" for name, count in columns) + " |",
        "|---|" + "---:|" * len(columns),
    ]
    for title, by_column in rows:
        cells = [
            _cell(by_column[name, count], by_column[names[0], count], name != names[0])
            for name, count in columns
        ]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    versions = dict.fromkeys(f"{run.contender}: {run.versions}" for run in runs)
    return "\n".join([*lines, "", "; ".join(versions) + "."])


def _costs(
    runs: Sequence[Run], columns: Sequence[tuple[str, str]], step_seconds: Mapping[str, float]
) -> list[tuple[str, Values]]:
    """What training and sampling cost; the same training stands in all columns of a contender."""

    def of(read: str) -> Values:
        return {
            (name, count): [getattr(run, read) for run in runs if run.contender == name]
            for name, count in columns
        }

    samples = {
        (name, count): [run.seconds_per_sample[count] for run in runs if run.contender == name]
        for name, count in columns
    }
    steps = {(name, count): [step_seconds[name]] for name, count in columns}
    return [
        ("seconds a joint sample", samples),
        ("seconds a step of training", steps),
        ("seconds of training", of("seconds")),
        ("steps of training", of("steps")),
        ("parameters", of("num_parameters")),
    ]


def _title(figure: str) -> str:
    higher = HIGHER_IS_BETTER.get(figure.split("/")[-1])
    return figure if higher is None else f"{figure} {'↑' if higher else '↓'}"


def _cell(values: Sequence[float], base: Sequence[float], has_ratio: bool) -> str:
    """Mean ± standard deviation (× ratio).

    Example:
        >>> _cell([1.0, 3.0], [4.0], has_ratio=True)
        '2.000 ± 1.414 (× 0.50)'
        >>> _cell([255378.0], [255378.0], has_ratio=False), _cell([], [1.0], has_ratio=True)
        ('255,378', '–')
    """
    if not values:
        return "–"
    mean = float(np.mean(values))
    text = _number(mean)
    if len(values) > 1 and (spread := float(np.std(values, ddof=1))):
        text += f" ± {_number(spread) if spread < 1 else f'{spread:.3f}'}"
    if has_ratio and base and float(np.mean(base)):
        text += f" (× {mean / float(np.mean(base)):.2f})"
    return text


def _number(value: float) -> str:
    if value == round(value) and abs(value) >= 10:
        return f"{value:,.0f}"
    return f"{value:.3f}" if abs(value) >= 0.1 else f"{value:.3g}"
