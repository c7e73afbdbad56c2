"""The page of a run: how far it is, its curves, sheets, figures, config and machine."""

import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmdiffusion_jax import files
from mmdiffusion_jax.report import history, tables
from mmdiffusion_jax.report.charts import draw, groups_of_run
from mmdiffusion_jax.report.curves import MOST_CURVES, Curves
from mmdiffusion_jax.report.markup import Markup, element, joined, moment, page
from mmdiffusion_jax.report.sheets import MOST_SHEETS, Pictures, Sheet, sheets_in, spread
from mmdiffusion_jax.report.viewer import Position, viewer

FILE = "report.html"
"""The page, in its workdir."""

_MOST_POINTS = 1000
_MOST_KINDS = 8


class RunPage:
    r"""The page of one workdir, which can be made again at little cost while its run goes on.

    It reads what is in the folder and no device. Only lines of `metrics.jsonl` and sheets that are
    new since the last time are read.

    Args:
        folder: the workdir.
        out: the file of the page; left out, `report.html` in the workdir.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "metrics.jsonl").write_text('{"step": 5, "train/loss": 0.5}\n')
        >>> RunPage(folder).write()
        >>> "step 5" in (folder / "report.html").read_text()
        True
    """

    def __init__(self, folder: Path, out: Path | None = None) -> None:
        self._folder, self._out = folder, out or folder / FILE
        self._curves = Curves(folder / "metrics.jsonl", _MOST_POINTS)
        self._pictures = Pictures()

    def write(self, step: int = 0) -> None:
        """Writes the page, whole or not at all.

        Args:
            step: that the run has reached; left out, as its files say.

        Raises:
            OSError: a file cannot be read or written.
        """
        files.write_text(self._out, self.html(step))

    def html(self, step: int = 0) -> str:
        """The page; the argument is that of `write`.

        Raises:
            OSError: a file cannot be read.
        """
        self._curves.read()
        config = tables.flat_config(self._folder)
        sheets = sheets_in(self._folder)
        step = step or max(self._curves.last_step, *_steps(self._folder, sheets))
        starts = history.starts(self._folder)
        drawn, data = draw(groups_of_run(self._curves.names()), {"": self._curves.to_json()})
        name = self._folder.resolve().name
        num_steps = config.get("training.num_steps")
        figures = list(tables.figures(self._folder))
        sections = {
            "Samples": joined(*self._sheets(sheets)),
            "Curves": drawn,
            "Figures": joined(*figures)
            or element("p", "Not evaluated yet; launch/evaluate.py does.", class_="quiet"),
            "Config": joined(*_config(config, starts)),
            "Machine": joined(*_machine(starts)),
        }
        body = joined(
            element("header", element("h1", name), self._progress(step, num_steps, starts)),
            navigation(list(sections)),
            *(section(title, inside) for title, inside in sections.items()),
            element("footer", *self._limits(sheets)),
        )
        self._pictures.forget()
        whole = f" of {num_steps:,}" if isinstance(num_steps, int) else ""
        return page(f"{name}: step {step:,}{whole}", body, data)

    def _progress(self, step: int, num_steps: Any, starts: list[dict[str, Any]]) -> Markup:
        known = isinstance(num_steps, int) and num_steps > 0
        words = [element("p", _state(step, num_steps, starts), class_="state")]
        if known:
            words.append(
                element("progress", max=num_steps, value=min(step, num_steps), aria_label="Steps")
            )
        tiles = [("step", f"{step:,} of {num_steps:,}" if known else f"{step:,}")]
        for title, name in (("training loss", "train/loss"), ("evaluation loss", "eval/loss")):
            if (value := self._curves.last(name)) is not None:
                tiles.append((title, tables.number(value)))
        rate = self._curves.last("speed/steps_per_second")
        if rate is not None:
            tiles.append(("steps a second", tables.number(rate)))
            if known and rate > 0 and step < num_steps:
                tiles.append(("time left at that speed", _duration((num_steps - step) / rate)))
        tiles.append(("written", moment(history.now(), ago=True)))
        pairs = (element("div", element("dt", title), element("dd", x)) for title, x in tiles)
        words.append(element("dl", *pairs, class_="tiles"))
        if not known or step < num_steps:
            again = element("input", type="checkbox", name="again")
            words.append(element("label", again, " reload every minute", class_="needs-script"))
        return joined(*words)

    def _sheets(self, sheets: list[Sheet]) -> Iterator[Markup]:
        kinds = list(dict.fromkeys(sheet.kind for sheet in sheets))
        for kind in kinds[:_MOST_KINDS]:
            positions = []
            for sheet in spread([sheet for sheet in sheets if sheet.kind == kind]):
                at = "" if sheet.step is None else f"step {sheet.step:,}"
                picture = self._pictures.show(sheet.file, f"Sheet of {kind} {at}".strip())
                if picture is not None:
                    positions.append(Position(at or "of the evaluation", {"": picture}))
            if positions:
                yield viewer("While training" if kind == "samples" else kind, positions)
        if not kinds:
            yield element(
                "p", "There are no sheets yet; training.sample_every draws them.", class_="quiet"
            )

    def _limits(self, sheets: list[Sheet]) -> Iterator[Markup]:
        if self._curves.are_thinned:
            words = (
                f"Curves of more than {_MOST_POINTS:,} points are thinned: the lowest and the "
                "highest point of each stretch are here. metrics.jsonl has all of them."
            )
            yield element("p", words)
        kinds = [sheet.kind for sheet in sheets]
        for kind in dict.fromkeys(kinds):
            if (count := kinds.count(kind)) > MOST_SHEETS:
                yield element(
                    "p",
                    f"At most {MOST_SHEETS} of the {count} sheets {kind} are here, evenly spread.",
                )
        if len({*kinds}) > _MOST_KINDS:
            yield element("p", f"Sheets of {_MOST_KINDS} kinds of {len({*kinds})} are here.")
        if self._curves.left_out:
            names = len(self._curves.left_out)
            yield element("p", f"{names} figures beyond the first {MOST_CURVES} are left out.")
        if self._curves.damaged:
            yield warning_of_lines(self._curves.damaged)
        yield element("p", "The page needs no network. Times are those of this browser's zone.")


def warning_of_lines(count: int) -> Markup:
    """Says that lines of metrics could not be read."""
    return tables.warning(f"{count} lines of metrics.jsonl cannot be read and are left out.")


def is_run(folder: Path) -> bool:
    """Whether a folder is the workdir of a run.

    Example:
        >>> is_run(Path("nowhere"))
        False
    """
    return any((folder / name).is_file() for name in ("config.json", "metrics.jsonl"))


def section(title: str, inside: Markup) -> Markup:
    """A section of a page, which `navigation` leads to."""
    return element("section", element("h2", title), inside, id=title.lower().replace(" ", "-"))


def navigation(titles: list[str]) -> Markup:
    """Links to the sections of a page."""
    links = (element("a", title, href=f"#{title.lower().replace(' ', '-')}") for title in titles)
    return element("nav", *links, aria_label="Sections")


def _state(step: int, num_steps: Any, starts: list[dict[str, Any]]) -> str:
    whole = isinstance(num_steps, int) and step >= num_steps
    newest = starts[-1] if starts else {}
    outcome = str(newest.get("outcome", ""))
    if outcome:
        return f"✖ Stopped: {outcome}"
    if whole:
        return "✔ Finished"
    if newest.get("ended"):
        return "■ Stopped with a checkpoint; the same command goes on"
    return "▶ In training, when this was written" if starts else "Not finished"


def _steps(folder: Path, sheets: list[Sheet]) -> list[int]:
    """Steps that files name: of sheets, and of checkpoints."""
    names = [file.name for file in (folder / "checkpoints").glob("*")]
    steps = [sheet.step for sheet in sheets if sheet.step is not None]
    return [0, *steps, *(int(name) for name in names if name.isdecimal())]


def _duration(seconds: float) -> str:
    """Seconds in words.

    Example:
        >>> _duration(59), _duration(3700), _duration(200_000)
        ('1 min', '1 h 2 min', '2 d 7 h')
    """
    minutes = max(1, round(seconds / 60))
    hours, days = minutes // 60, minutes // 1440
    if days:
        return f"{days} d {hours % 24} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min"


def _config(values: dict[str, Any], starts: list[dict[str, Any]]) -> Iterator[Markup]:
    if not values:
        yield element("p", "There is no config.json that can be read.", class_="quiet")
        return
    if flags := starts[-1].get("flags") if starts else None:
        shown = joined(*(element("code", str(flag)) for flag in flags), by=" ")
        yield element("p", "Flags of the last start: ", shown, class_="flags")
    rows = tables.default_difference(values)
    words = "Keys that do not have their default"
    yield tables.table(["key", "this run", "default"], rows, words, numbers=False)


def _machine(starts: list[dict[str, Any]]) -> Iterator[Markup]:
    if not starts:
        yield element("p", "It was not kept what this run was trained on.", class_="quiet")
        return
    newest = starts[-1]
    rows = [["devices", str(newest.get("devices", "–"))]]
    rows.append(["processes", str(newest.get("processes", "–"))])
    rows.append(["system", str(newest.get("system", "–"))])
    versions = newest.get("versions")
    if isinstance(versions, dict):
        rows += [[name, str(version)] for name, version in versions.items()]
    yield tables.table(["last start", ""], rows, "What it was trained on", numbers=False)
    lines = []
    for start in reversed(starts):
        ended = _moment(start.get("ended"))
        outcome = str(start.get("outcome", "")) or ("stopped or done" if start.get("ended") else "")
        lines.append([_moment(start.get("begun")), ended, str(start.get("devices", "–")), outcome])
    words = "Starts, the newest first"
    yield tables.table(["begun", "ended", "devices", "how"], lines, words, numbers=False)


def _moment(text: Any) -> str:
    try:
        return moment(datetime.datetime.fromisoformat(str(text)))
    except ValueError:
        return "–"
