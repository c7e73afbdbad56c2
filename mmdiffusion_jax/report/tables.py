"""Tables: figures of an evaluation, Markdown of a comparison, and what configs differ in."""

import datetime
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmdiffusion_jax import evaluation, experiment
from mmdiffusion_jax.report.markup import Markup, breakable, element, joined, moment

_VERDICTS = {"better": "▲", "worse": "▼", "no difference": "=", "one seed": "·"}
_VERDICT = re.compile(rf"(.*) \(({'|'.join(_VERDICTS)})\)")
_BESIDE = ("num_examples", "left_out", "features", "sham_test")


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "", numbers: bool = True
) -> Markup:
    """A table whose first column heads its rows, in a box that scrolls where it is too wide.

    Args:
        head: of the columns.
        rows: their cells.
        caption: above it; left out, there is none.
        numbers: whether the other columns are numbers, which stand to the right.

    Example:
        >>> print(table(["figure", "a"], [["<", "1"]]).partition("<tbody>")[2])
        <tr><th scope="row">&lt;</th><td>1</td></tr></tbody></table></div>
    """
    lines = [
        element(
            "tr",
            element("th", breakable(row[0]), scope="row"),
            *(element("td", cell) for cell in row[1:]),
        )
        for row in rows
    ]
    whole = element(
        "table",
        element("thead", element("tr", *(element("th", breakable(x), scope="col") for x in head))),
        element("tbody", *lines),
        class_="numbers" if numbers else "keys",
        aria_label=caption or head[0],
    )
    words = [element("p", caption, class_="caption")] if caption else []
    # A box that scrolls is reached by the keyboard, and has a name.
    box = element("div", whole, class_="wide", tabindex=0, role="region", aria_label=head[0])
    return joined(*words, box)


def warning(text: str) -> Markup:
    """A warning, which a sign and a word tell apart, not its colour alone."""
    return element("p", element("strong", "⚠ Warning: "), text, class_="warning")


def figures(folder: Path) -> Iterator[Markup]:
    """The figures that evaluations have left in a workdir, with what judged them."""
    kept = _read(folder / "metrics.json")
    if kept is not None:
        values = {name: x for name, x in kept.items() if name not in _BESIDE}
        yield _source("metrics.json", folder)
        yield from _judged(kept.get("features"), kept.get("sham_test"))
        yield _figures(values, kept.get("num_examples"))
        yield from _left_out(kept.get("left_out"))
    kept = _read(folder / "figures.json")
    if kept is not None and isinstance(kept.get("figures"), Mapping):
        key = kept.get("key")
        options = key.get("evaluation") if isinstance(key, Mapping) else None
        yield _source("figures.json", folder)
        yield from _judged(options.get("features") if isinstance(options, Mapping) else None, None)
        yield _figures(kept["figures"], kept.get("num_examples"))


def _source(name: str, folder: Path) -> Markup:
    when = datetime.datetime.fromtimestamp((folder / name).stat().st_mtime, datetime.UTC)
    return element("p", "Of ", element("code", name), ", written ", moment(when), ".")


def _judged(features: Any, sham: Any) -> Iterator[Markup]:
    """Which features and judges there were, and what they made of shams."""
    if features:
        yield element("p", "Features: ", element("code", str(features)), ".")
    if not isinstance(sham, Mapping):
        if features:
            yield element(
                "p",
                "What these features make of shams was not kept; launch/evaluate.py keeps it.",
                class_="quiet",
            )
        return
    for text in sham.get("warnings", ()):
        yield warning(f"{text}.")
    tried = sham.get("figures", {})
    if any(name.startswith("sham/") for name in tried):
        report = evaluation.ShamTest(str(features), {n: float(x) for n, x in tried.items()})
        words = "What the features make of real images and of shams"
        yield from markdown(report.table(), words)


def _figures(values: Mapping[str, Any], counts: Any) -> Markup:
    counts = counts if isinstance(counts, Mapping) else {}
    rows = []
    for name, value in values.items():
        higher = evaluation.HIGHER_IS_BETTER.get(name.split("/")[-1])
        way = "" if higher is None else "higher ↑" if higher else "lower ↓"
        rows.append([name, number(value), way, _count(counts.get(name))])
    return table(["figure", "value", "better is", "examples"], rows, "Figures of the evaluation")


def _left_out(reasons: Any) -> Iterator[Markup]:
    if isinstance(reasons, Mapping) and reasons:
        rows = [[name, str(reason)] for name, reason in reasons.items()]
        yield table(["left out", "reason"], rows, "Figures without a value", numbers=False)


def number(value: Any) -> str:
    """A number as a table shows it.

    Example:
        >>> [number(x) for x in (0.98765, 119.3, 2, 5.5e-06, 50527948.0, "inf", 0.0)]
        ['0.9877', '119.3', '2', '5.5e-06', '50,527,948', 'inf', '0']
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return str(value)
    if value == int(value):
        return f"{int(value):,}"
    if abs(value) >= 1e4:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def _count(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else "–"


def markdown(text: str, caption: str = "") -> Iterator[Markup]:
    r"""The paragraphs, warnings and tables of `comparison.md`; verdicts have signs.

    Args:
        text: lines of tables begin with `|`; a paragraph before a table is its caption.
        caption: of a table without one.

    Example:
        >>> text = "| figure | a | b |\n|---|---:|---:|\n| f ↑ | 1.0 | 0.5 (better) |"
        >>> (whole,) = markdown(text)
        >>> print(whole.partition("<tbody>")[2].partition("</tr>")[0])
        <tr><th scope="row">f ↑</th><td>1.0</td><td>0.5 <span class="verdict
        better">(▲ better)</span></td>
    """
    lines, before = text.splitlines(), ""
    while lines:
        line = lines.pop(0).strip()
        if not line:
            continue
        if not line.startswith("|"):
            if before:
                yield element("p", before)
            if line.startswith("Warning: "):
                yield warning(line.removeprefix("Warning: "))
                line = ""
            before = line
            continue
        rows = [line]
        while lines and lines[0].startswith("|"):
            rows.append(lines.pop(0))
        head, *cells = ([_cell(x) for x in row.strip().strip("|").split("|")] for row in rows)
        yield table(head, cells[1:], before or caption)
        before = ""
    if before:
        yield element("p", before)


def _cell(text: str) -> str:
    text = text.strip()
    match = _VERDICT.fullmatch(text)
    if match is None:
        return text
    words = f"({_VERDICTS[match[2]]} {match[2]})"
    kind = match[2].replace(" ", "-")
    return joined(f"{match[1]} ", element("span", words, class_=f"verdict {kind}"))


def flat_config(folder: Path) -> dict[str, Any]:
    """{path of a key: value} of a workdir's config, of whatever version; empty without one."""
    values = _read(folder / "config.json")
    return {} if values is None else dict(_flat(values))


def default_difference(values: Mapping[str, Any]) -> list[list[str]]:
    """Rows (key, value, default) of the keys of a config that do not have their default.

    Args:
        values: from `flat_config`.

    Example:
        >>> default_difference({"seed": 0, "training.num_steps": 20, "modalities.x.kind": "image"})
        [['training.num_steps', '20', '4000'], ['modalities.x.kind', 'image', '–']]
    """
    plain = json.loads(json.dumps(experiment.default_config().to_dict()))
    default = dict(_flat(plain))
    return [
        [key, _shown(value), _shown(default[key]) if key in default else "–"]
        for key, value in values.items()
        if (key not in default or default[key] != value) and value not in ({}, [])
    ]


def config_differences(configs: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Rows (key, value of each config) of the keys in which several configs differ.

    Example:
        >>> config_differences({"a": {"x": 1, "y": 2}, "b": {"x": 1}})
        [['y', '2', '–']]
    """
    rows = []
    for key in dict.fromkeys(key for values in configs.values() for key in values):
        each = [values.get(key) for values in configs.values()]
        cells = ["–" if value in (None, {}, [], "") else _shown(value) for value in each]
        if len({*cells}) > 1:
            rows.append([key, *cells])
    return rows


def _flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        path = f"{above}.{name}" if above else str(name)
        if isinstance(value, Mapping) and value:
            yield from _flat(value, path)
        else:
            yield path, value


def _shown(value: Any) -> str:
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)


def _read(file: Path) -> dict[str, Any] | None:
    """A file of JSON; None if it is missing, damaged or no object."""
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return values if isinstance(values, dict) else None
