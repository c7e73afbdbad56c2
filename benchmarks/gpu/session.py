"""Runs the sections of a session and prints each figure as soon as it is there.

`OUT/gpu.md` has what was printed, `OUT/gpu.json` the same figures, both as far as the session came.
"""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.gpu import sections
from benchmarks.speed import report
from benchmarks.speed.worker import Unavailable
from mmdiffusion_jax import files


def run(session: sections.Session, names: list[str]) -> dict[str, str]:
    """Runs the sections of these names: {name: last words} of those that broke."""
    about = report.describe(len(os.sched_getaffinity(0)))
    page = Page(session.out)
    page.add(", ".join([*about["machine"]["gpu"], *_versions(about)]))
    broken: dict[str, str] = {}
    for name in names:
        section = sections.SECTIONS[name]
        page.begin(name, (section.__doc__ or "").splitlines()[0])
        if session.seconds_left <= 0:
            page.add("No time was left.")
            continue
        begun = time.monotonic()
        try:
            for line in section(session):
                page.row(line)
        except Unavailable as reason:
            page.add(f"Left out: {reason}.")
        except Exception as error:
            broken[name] = str(error)
            page.add(f"It broke: {sections.last_line(str(error))}")
        page.add(f"{time.monotonic() - begun:.0f} s.")
    return broken


class Page:
    """What is printed, and kept in `gpu.md` and `gpu.json` at the same time.

    Args:
        folder: of the two files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lines: list[str] = []
        self._figures: dict[str, list[dict[str, Any]]] = {}
        self._columns: list[str] = []
        self._name = ""

    def begin(self, name: str, title: str) -> None:
        """A new table."""
        self._name, self._columns = name, []
        self.add(f"## {name}", title)

    def add(self, *paragraphs: str) -> None:
        """Text."""
        self._print(*(line for text in paragraphs for line in ("", text)))

    def row(self, line: sections.Line) -> None:
        """A row of the table; other columns than the last row's begin a table of their own."""
        columns = list(line)
        if columns != self._columns:
            self._columns = columns
            self._print("", f"| {' | '.join(columns)} |", "|---" * len(columns) + "|")
        self._figures.setdefault(self._name, []).append(dict(line))
        self._print(f"| {' | '.join(_shown(value) for value in line.values())} |")

    def _print(self, *lines: str) -> None:
        for line in lines:
            print(line, flush=True)
        self._lines += lines
        files.write_text(self._folder / "gpu.md", "\n".join(self._lines).lstrip() + "\n")
        files.write_text(self._folder / "gpu.json", json.dumps(self._figures, indent=1) + "\n")


def _shown(value: str | int | float) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _versions(about: Mapping[str, Any]) -> list[str]:
    return [f"{name} {number}" for name, number in about["versions"].items()]
