"""Results as a table to read and as JSON, written whole or not at all."""

import json
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.speed.harness import ROOT, Row
from mmdiffusion_jax import files

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "grain", "numpy", "torch")
_QUARTILES = ("least", "lower_quartile", "upper_quartile", "greatest")


def describe(cores: int) -> dict[str, Any]:
    """This machine, the versions of what is measured, and who had how many threads."""
    return {
        "machine": {
            "processor": _processor(),
            "cores": cores,
            "memory_gib": round(_memory() / 2**20),
            "system": platform.platform(),
            "gpu": _gpus(),
        },
        "versions": {"python": platform.python_version(), **_versions()},
        "threads": {"ours": cores, "torch": cores},
    }


def entry(row: Row, goal: float | None, title: str, stolen: float, quick: bool) -> dict[str, Any]:
    """What the JSON keeps of one row."""
    return {
        "title": title,
        "value": row.value,
        "goal": goal,
        "met": None if goal is None else row.value <= goal,
        "spread": dict(zip(_QUARTILES, row.spread, strict=False)),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "quick": quick,
        "stolen_share": stolen,
        **row.details,
    }


def merge(
    folder: Path, about: Mapping[str, Any], rows: Mapping[str, Any], skipped: Mapping[str, str]
) -> dict[str, Any]:
    """The new results with those of `folder` that they do not replace.

    Results of another machine, or of other versions, are not kept: they would not be comparable.
    """
    details = dict(rows)
    left_out = dict(skipped)
    path = folder / "results.json"
    if path.exists():
        before = json.loads(path.read_text())
        if all(before.get(key) == about[key] for key in about):
            details = {**before["details"], **details}
            left_out = {**before["skipped"], **left_out}
    left_out = {name: reason for name, reason in left_out.items() if name not in rows}
    details = {name: row for name, row in details.items() if name not in left_out}
    return {
        **{name: row["value"] for name, row in details.items()},
        **about,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "skipped": left_out,
        "details": details,
    }


def write(folder: Path, results: Mapping[str, Any]) -> None:
    """`results.json` and `results.md` in a folder that is made where it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    files.write_text(folder / "results.json", json.dumps(results, indent=2) + "\n")
    files.write_text(folder / "results.md", table(results))


def table(results: Mapping[str, Any]) -> str:
    """A Markdown table of all rows with their goals, and what was left out."""
    machine = results["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in results["versions"].items())
    lines = [
        "# Benchmarks",
        "",
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB; "
        f"{', '.join(machine['gpu']) or 'no GPU'}; {results['date']}.",
        f"{versions}. Both sides have {results['threads']['ours']} threads.",
        "",
        "| figure | value | quartiles | goal | met | what |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in results["details"].items():
        quartiles = [row["spread"].get(key) for key in _QUARTILES[1:3]]
        between = "–".join(f"{x:.3f}" for x in quartiles if x is not None)
        goal = "" if row["goal"] is None else f"≤ {row['goal']}"
        met = {True: "yes", False: "no", None: ""}[row["met"]]
        quick = ", quick" if row["quick"] else ""
        what = f"{row['title']}{_seconds(row)}{quick}"
        lines.append(f"| `{name}` | {row['value']:.3f} | {between} | {goal} | {met} | {what} |")
    if results["skipped"]:
        lines += ["", "Left out:", ""]
        lines += [f"- `{name}`: {reason}." for name, reason in results["skipped"].items()]
    return "\n".join(lines) + "\n"


def _seconds(row: Mapping[str, Any]) -> str:
    times = row.get("seconds", {})
    shown = ", ".join(f"{name} {_milliseconds(value)}" for name, value in times.items())
    return f" ({shown})" if shown else ""


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def _versions() -> dict[str, str]:
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return versions


def _processor() -> str:
    for line in _lines("/proc/cpuinfo"):
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory() -> int:
    """KiB."""
    for line in _lines("/proc/meminfo"):
        if line.startswith("MemTotal"):
            return int(line.split()[1])
    return 0


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def _gpus() -> list[str]:
    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            cwd=ROOT,
        )
    except FileNotFoundError:
        return []
    return done.stdout.split("\n")[:-1] if done.returncode == 0 else []


def stolen() -> tuple[float, float]:
    """Processor time that other machines on the same hardware took, and all there was."""
    for line in _lines("/proc/stat"):
        if line.startswith("cpu "):
            ticks = [float(x) for x in line.split()[1:9]]
            return ticks[7], sum(ticks)
    return 0.0, 0.0
