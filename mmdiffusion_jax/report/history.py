"""What a run was started on, each time, and how it ended."""

import datetime
import importlib.metadata
import json
import platform
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax

import mmdiffusion_jax
from mmdiffusion_jax import files

FILE = "history.json"
"""In a workdir: the starts of its run, the newest last."""

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
_MOST = 20


def begin(folder: Path) -> None:
    """Notes that a run begins, or goes on, in this process: devices, versions, flags of the config.

    The last 20 starts are kept.

    Raises:
        OSError: the file cannot be written.
    """
    versions = {"mmdiffusion_jax": mmdiffusion_jax.__version__}
    versions["Python"] = platform.python_version()
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    kinds = sorted({device.device_kind for device in jax.devices()})
    start = {
        "begun": now().isoformat(),
        "devices": f"{jax.device_count()} × {', '.join(kinds)}",
        "processes": jax.process_count(),
        "system": platform.platform(),
        "versions": versions,
        "flags": config_flags(sys.argv[1:]),
    }
    _write(folder, [*starts(folder), start][-_MOST:])


def end(folder: Path, outcome: str) -> None:
    """Notes how the newest start of a run ended.

    Raises:
        OSError: the file cannot be written.
    """
    noted = starts(folder)
    if noted:
        noted[-1] |= {"ended": now().isoformat(), "outcome": outcome}
        _write(folder, noted)


def starts(folder: Path) -> list[dict[str, Any]]:
    """What was noted of each start; nothing where the file is missing or damaged.

    Example:
        >>> starts(Path("nowhere"))
        []
    """
    try:
        noted = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [x for x in noted if isinstance(x, dict)] if isinstance(noted, list) else []


def config_flags(arguments: Iterable[str]) -> list[str]:
    """The flags of the config among the arguments of a command, each with its value.

    Example:
        >>> config_flags(["--config", "c.py", "--workdir=W", "--config.seed=1"])
        ['--config=c.py', '--config.seed=1']
    """
    flags, words = [], iter(arguments)
    for word in words:
        if word.partition("=")[0].split(".")[0].lstrip("-") == "config" and word.startswith("-"):
            flags.append(word if "=" in word else f"{word}={next(words, '')}")
    return flags


def now() -> datetime.datetime:
    """The time, to the second."""
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0)


def _write(folder: Path, noted: list[dict[str, Any]]) -> None:
    files.write_text(folder / FILE, json.dumps(noted, indent=1) + "\n")
