"""The page of a comparison: its tables, the curves of its runs over each other, their sheets."""

import dataclasses
import glob
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmdiffusion_jax import files
from mmdiffusion_jax.report import history, tables
from mmdiffusion_jax.report.charts import draw, groups_of_runs
from mmdiffusion_jax.report.curves import Curves
from mmdiffusion_jax.report.markup import Markup, element, joined, moment, page
from mmdiffusion_jax.report.run import FILE, navigation, section, warning_of_lines
from mmdiffusion_jax.report.sheets import Pictures, Sheet, sheets_in, spread
from mmdiffusion_jax.report.viewer import Position, viewer

COSTS = "costs.json"
"""The file that tells the workdir of a comparison from others: {"arm/part": cost}."""

_MOST_POINTS, _MOST_PICTURES, _MOST_RUNS = 240, 48, 60
_PLACE = re.compile(r"(\d+)-seed(\d+)")
_DETAILS = "train/gradient_norm/"


@dataclasses.dataclass(frozen=True)
class ArmFolder:
    """The folder of a run of an arm.

    Attributes:
        arm: of the comparison.
        part: of the arm.
        num_steps: of training.
        seed: of training.
        folder: its workdir.
    """

    arm: str
    part: str
    num_steps: int
    seed: int
    folder: Path


def is_comparison(folder: Path) -> bool:
    """Whether a folder is the workdir of `launch/compare.py`.

    Example:
        >>> is_comparison(Path("nowhere"))
        False
    """
    return (folder / COSTS).is_file()


def arm_folders(folder: Path) -> list[ArmFolder]:
    """The folders of runs in the workdir of a comparison, arm by arm, also unfinished ones."""
    try:
        names = list(json.loads((folder / COSTS).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        names = []
    runs = []
    for name in names:
        arm, _, part = str(name).partition("/")
        for place in folder.glob(f"{glob.escape(f'{arm}-{part}-')}*"):
            match = _PLACE.fullmatch(place.name.removeprefix(f"{arm}-{part}-"))
            if match and place.is_dir():
                runs.append(ArmFolder(arm, part, int(match[1]), int(match[2]), place))
    order = {str(name): index for index, name in enumerate(names)}
    return sorted(runs, key=lambda x: (order[f"{x.arm}/{x.part}"], -x.num_steps, x.seed))


def write_comparison(folder: Path, out: Path | None = None) -> None:
    """Writes the page of a comparison, whole or not at all.

    Args:
        folder: the workdir of `launch/compare.py`.
        out: the file of the page; left out, `report.html` in the workdir.

    Raises:
        OSError: a file cannot be read or written.
    """
    files.write_text(out or folder / FILE, comparison_html(folder))


def comparison_html(folder: Path) -> str:
    """The page of a comparison.

    Raises:
        OSError: a file cannot be read.
    """
    everything = arm_folders(folder)
    runs = everything[:_MOST_RUNS]
    several = {(run.arm, run.part) for run in runs if len(_lengths(runs, run)) > 1}
    curves: dict[str, Curves] = {}
    for run in runs:
        curves[run.folder.name] = Curves(run.folder / "metrics.jsonl", _MOST_POINTS, _DETAILS)
        curves[run.folder.name].read()
    labelled = {}
    for run in runs:
        label = f"{run.arm} · {run.part}"
        if (run.arm, run.part) in several:
            label += f", {run.num_steps:,} steps"
        labelled[run.folder.name] = (label, curves[run.folder.name].names())
    drawn, data = draw(
        groups_of_runs(labelled), {name: each.to_json() for name, each in curves.items()}
    )
    results = folder / "comparison.md"
    text = results.read_text(encoding="utf-8") if results.is_file() else ""
    sections = {
        "Verdicts": joined(*tables.markdown(text))
        or element("p", "No run is evaluated yet.", class_="quiet"),
        "Curves": drawn,
        "Samples": joined(*_sheets(runs)),
        "Runs": _runs(runs, curves),
        "Config": joined(*_configs(runs)),
    }
    name = folder.resolve().name
    head = element(
        "p", "A comparison of arms, written ", moment(history.now(), ago=True), ".", class_="state"
    )
    words = (
        f"Curves have about {_MOST_POINTS} points at most; the pages of the runs, report.html in "
        "their folders, have more, and the gradient norms of each part."
    )
    notes = [element("p", words), element("p", "The page needs no network.")]
    if len(everything) > len(runs):
        notes.append(element("p", f"{len(runs)} of {len(everything)} runs are here."))
    if damaged := sum(each.damaged for each in curves.values()):
        notes.append(warning_of_lines(damaged))
    body = joined(
        element("header", element("h1", name), head),
        navigation(list(sections)),
        *(section(title, inside) for title, inside in sections.items()),
        element("footer", *notes),
    )
    return page(f"{name}: comparison", body, data)


def _lengths(runs: Sequence[ArmFolder], run: ArmFolder) -> set[int]:
    return {x.num_steps for x in runs if (x.arm, x.part) == (run.arm, run.part)}


def _sheets(runs: Sequence[ArmFolder]) -> Iterator[Markup]:
    """The sheets of the arms side by side: of evaluations by the seed, of training by the step."""
    of_runs = [(run, sheet) for run in runs for sheet in sheets_in(run.folder)]
    kinds = list(dict.fromkeys(sheet.kind for _, sheet in of_runs))
    if not kinds:
        yield element("p", "There are no sheets yet.", class_="quiet")
        return
    pictures, room = Pictures(), _MOST_PICTURES
    for kind in sorted(kinds, key=lambda kind: kind != "joint"):
        grouped: dict[tuple[int, int], list[tuple[ArmFolder, Sheet]]] = {}
        for run, sheet in of_runs:
            if sheet.kind == kind:
                key = (run.seed, -1 if sheet.step is None else sheet.step)
                grouped.setdefault(key, []).append((run, sheet))
        positions = []
        for seed, step in spread(sorted(grouped), 12):
            shown = {}
            for run, sheet in grouped[seed, step]:
                words = f"{run.arm} · {run.part}, {run.num_steps:,} steps"
                picture = pictures.show(sheet.file, f"Sheet of {kind}: {words}") if room else None
                if picture is not None:
                    shown[words] = picture
                    room -= 1
            title = f"seed {seed}" + ("" if step < 0 else f", step {step:,}")
            if shown:
                positions.append(Position(title, shown))
        if positions:
            # Where runs are still going on, later seeds lack arms.
            sizes = [len(position.pictures) for position in positions]
            yield viewer(kind, positions, "Seed and step", sizes.index(max(sizes)))
    if not room:
        words = f"{_MOST_PICTURES} pictures are here; the folders of the runs have all."
        yield element("p", words, class_="quiet")


def _runs(runs: Sequence[ArmFolder], curves: dict[str, Curves]) -> Markup:
    rows = []
    for run in runs:
        each = curves[run.folder.name]
        loss, rate = (each.last(name) for name in ("train/loss", "speed/steps_per_second"))
        state = "evaluated" if (run.folder / "figures.json").is_file() else "in training or stopped"
        words = [tables.number(x) if x is not None else "–" for x in (loss, rate)]
        rows.append([run.folder.name, f"{each.last_step:,} of {run.num_steps:,}", *words, state])
    head = ["run", "step", "training loss", "steps a second", "state"]
    return tables.table(head, rows, "The runs of the comparison")


def _configs(runs: Sequence[ArmFolder]) -> Iterator[Markup]:
    """What the arms differ in, and what the first one has in place of the default."""
    configs: dict[str, dict[str, Any]] = {}
    for run in runs:
        values = tables.flat_config(run.folder)
        for key in ("seed", "training.num_steps"):
            values.pop(key, None)
        if values:
            configs.setdefault(f"{run.arm} · {run.part}", values)
    if not configs:
        yield element("p", "There is no config.json that can be read.", class_="quiet")
        return
    rows = tables.config_differences(configs)
    words = "Keys in which the arms differ"
    yield tables.table(["key", *configs], rows, words, numbers=False)
    first = next(iter(configs))
    rows = tables.default_difference(configs[first])
    words = f"Keys of {first} that do not have their default"
    yield tables.table(["key", first, "default"], rows, words, numbers=False)
