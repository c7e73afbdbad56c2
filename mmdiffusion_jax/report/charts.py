"""Which curves are drawn over each other, and which charts stand together."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mmdiffusion_jax.report.markup import Markup, element, joined
from mmdiffusion_jax.report.tables import number

_TRAINING, _TEST = "train/", "eval/"
_NORMS = "train/gradient_norm/"
_TITLES = {
    "train": "Training",
    "eval": "Test split",
    "speed": "Speed and memory",
    "average": "Averages of the parameters",
}
_UNITS = {
    "steps_per_second": "steps a second",
    "examples_per_second": "examples a second",
    "input_stall_share": "share of the time",
    "memory_bytes": "bytes",
    "model_flops_utilisation": "share of the peak",
    "skipped_steps": "steps",
    "loss_spikes": "steps",
}


@dataclasses.dataclass(frozen=True)
class Line:
    """A curve in a chart.

    Attributes:
        run: whose curve it is.
        name: of the figure.
        label: curves with one label look alike; "" is not shown.
    """

    run: str
    name: str
    label: str


@dataclasses.dataclass(frozen=True)
class Chart:
    """Curves over each other, and what the axis of their values is called."""

    title: str
    axis: str
    lines: tuple[Line, ...]


@dataclasses.dataclass(frozen=True)
class Group:
    """Charts under one heading; `folded` ones are drawn when they are opened."""

    title: str
    charts: tuple[Chart, ...]
    folded: bool = False


def groups_of_run(names: Sequence[str]) -> list[Group]:
    """The charts of one run: figures of training and of evaluations over each other first.

    Then come the others by the first part of their name, the norms of the gradients of each part
    of the network last.

    Example:
        >>> names = ["train/loss", "train/gradient_norm/a", "speed/x", "eval/loss", "train/b"]
        >>> for group in groups_of_run(names):
        ...     print(group.title, [chart.title for chart in group.charts])
        Training and evaluation ['loss']
        Training ['b']
        Speed and memory ['x']
        Gradient norms by part of the network (1) ['gradient_norm/a']
    """
    both = [
        name.removeprefix(_TRAINING)
        for name in sorted(names, key=lambda name: name != "train/loss")
        if name.startswith(_TRAINING) and _TEST + name.removeprefix(_TRAINING) in names
    ]
    joint = [
        _chart(name, [Line("", each, _label(each)) for each in (_TRAINING + name, _TEST + name)])
        for name in both
    ]
    rest = [x for x in names if x.removeprefix(_TRAINING).removeprefix(_TEST) not in both]
    lines = {name: [Line("", name, _label(name))] for name in rest}
    first = [Group("Training and evaluation", tuple(joint))] if joint else []
    return [*first, *_grouped(lines)]


def _label(name: str) -> str:
    """Whose figure it is, of a run: of training, of an evaluation, or of neither."""
    if name.startswith(_TEST):
        return "evaluation, averaged parameters"
    return "training" if name.startswith(_TRAINING) else ""


def groups_of_runs(runs: Mapping[str, tuple[str, Sequence[str]]]) -> list[Group]:
    """The charts of several runs, their curves over each other.

    Args:
        runs: {run: (the label of its curves, names of its figures)}.

    Example:
        >>> (group,) = groups_of_runs({"a-0": ("a", ["train/loss"]), "b-0": ("b", ["train/loss"])})
        >>> [line.label for line in group.charts[0].lines]
        ['a', 'b']
    """
    lines: dict[str, list[Line]] = {}
    for run, (label, names) in runs.items():
        for name in names:
            lines.setdefault(name, []).append(Line(run, name, label))
    return _grouped(lines)


def _grouped(lines: Mapping[str, list[Line]]) -> list[Group]:
    grouped: dict[str, list[Chart]] = {}
    for name in sorted(lines, key=lambda name: name not in ("train/loss", "eval/loss")):
        prefix, mark, rest = name.partition("/")
        key = "norms" if name.startswith(_NORMS) else prefix if mark else ""
        grouped.setdefault(key, []).append(_chart(rest or name, lines[name]))
    norms = tuple(grouped.pop("norms", ()))
    last = {"speed": 1, "": 2}
    groups = [
        Group(_TITLES.get(key, key or "Other figures"), tuple(charts), folded=key == "speed")
        for key, charts in sorted(grouped.items(), key=lambda item: last.get(item[0], 0))
    ]
    if norms:
        title = f"Gradient norms by part of the network ({len(norms)})"
        groups.append(Group(title, norms, folded=True))
    return groups


def _chart(title: str, lines: Iterable[Line]) -> Chart:
    axis = title.split("/")[-1]
    first = title.split("/")[0]
    axis = {"gradient_norm": "norm", "tasks": "loss"}.get(first, axis)
    return Chart(title, _UNITS.get(axis, axis), tuple(lines))


def draw(
    groups: Sequence[Group], runs: Mapping[str, Mapping[str, list[list[Any]]]]
) -> tuple[Markup, dict[str, Any]]:
    """The places of charts in a page, and the data that its script draws there.

    Args:
        groups: of charts.
        runs: {run: {figure: [steps, values]}}.

    Returns:
        (HTML, data). Without the script a chart has the newest value of each curve.
    """
    sections: list[Markup] = []
    charts: list[Chart] = []
    for group in groups:
        inside = []
        for chart in group.charts:
            if not _is_zero(chart, runs):
                inside.append(_place(chart, len(charts), runs))
                charts.append(chart)
        parts = [element("div", *inside, class_="charts")] if inside else []
        if zero := [chart.title for chart in group.charts if _is_zero(chart, runs)]:
            words = f"0 at every step: {', '.join(zero)}."
            parts.append(element("p", words, class_="quiet"))
        heading = element("h3", group.title)
        if group.folded:
            heading = element("summary", heading)
        tag = "details" if group.folded else "section"
        sections.append(element(tag, heading, *parts, class_="group"))
    if not sections:
        return element("p", "There are no metrics yet.", class_="quiet"), {"charts": []}
    labels = dict.fromkeys(line.label for chart in charts for line in chart.lines)
    data = {
        "runs": runs,
        "charts": [dataclasses.asdict(chart) for chart in charts],
        "labels": list(labels),
    }
    return joined(_switches(), *sections), data


def _is_zero(chart: Chart, runs: Mapping[str, Mapping[str, list[list[Any]]]]) -> bool:
    return not any(any(runs[line.run][line.name][1]) for line in chart.lines)


def _place(chart: Chart, index: int, runs: Mapping[str, Mapping[str, list[list[Any]]]]) -> Markup:
    newest = [
        f"{line.label} {number(runs[line.run][line.name][1][-1])}".strip()
        for line in chart.lines
        if runs[line.run][line.name][1]
    ]
    return element(
        "figure",
        element("figcaption", element("span", chart.title, class_="title")),
        element("div", element("p", "; ".join(newest), class_="quiet"), class_="plot"),
        class_="chart",
        data_chart=index,
    )


def _switches() -> Markup:
    scales = [
        _switch("radio", "scale", "auto", " automatic", True),
        _switch("radio", "scale", "linear", " linear"),
        _switch("radio", "scale", "log", " log"),
    ]
    return element(
        "div",
        element("fieldset", element("legend", "Axis of values"), *scales, class_="inline"),
        element(
            "fieldset",
            element("legend", "Axis of steps"),
            _switch("checkbox", "log_steps", "log", " log"),
            class_="inline",
        ),
        class_="switches needs-script",
    )


def _switch(kind: str, name: str, value: str, words: str, checked: bool = False) -> Markup:
    button = element("input", type=kind, name=name, value=value, checked=checked)
    return element("label", button, words)
