"""From a config with a sweep to named runs, all of them checked before any starts."""

import functools
import hashlib
import operator
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from mmdiffusion_jax import errors, experiment, files

# Letters that every file system keeps, also one without capitals, and that separate neither keys
# from values nor pairs from pairs.
_SAFE = re.compile(r"[a-z0-9._+-]*")
_LONGEST_NAME = 120


@dataclass(frozen=True)
class SweepRun:
    """One run of a sweep.

    Attributes:
        name: made of the overrides alone, so that a sweep may grow; also its folder's name.
        overrides: {path of a key in the config: value}.
        config: with the overrides.
        workdir: its folder.
        arguments: of `launch/train.py`.
    """

    name: str
    overrides: Mapping[str, Any]
    config: ConfigDict
    workdir: Path
    arguments: tuple[str, ...]


def expand_sweep(config: str, workdir: str, extra: Sequence[str] = ()) -> list[SweepRun]:
    """The runs of a sweep, in its order.

    The config file defines `get_sweep()`, or `get_sweep(form)`, which returns one dict of
    overrides a run: `[{"training.learning_rate": rate} for rate in (1e-4, 1e-3)]`. Each run's
    flags are parsed as `launch/train.py` will parse them.

    Args:
        config: a config file, with `:FORM` where it has forms.
        workdir: the folder of the sweep; a run's is below it, under its name.
        extra: further flags of `launch/train.py`, the same for all runs.

    Returns:
        The runs; nothing is made or written.

    Raises:
        ValueError: no config file or no sweep in it, a key that the config lacks or a value that
            does not fit it, two runs that are the same, or a folder that holds another experiment.

    Example:
        >>> import tempfile
        >>> runs = expand_sweep("configs/smoke.py", tempfile.mkdtemp())
        >>> runs[0].name, runs[0].arguments[1]
        ('seed=0,training.learning_rate=0.001', '--config.seed=0')
    """
    for flag in extra:
        if not flag.startswith("--") or flag.startswith(("--config=", "--workdir=")):
            raise errors.invalid(
                "sweep",
                f"the argument {flag!r}",
                "further flags of train.py alone, as --config.x=y",
                "leave it out or mend it",
            )
    root = files.to_path(workdir, "workdir")
    runs: dict[str, SweepRun] = {}
    for overrides in _read_sweep(config):
        run = _make_run(config, root, overrides, extra)
        if run.name in runs:
            raise errors.invalid(
                "sweep",
                f"{run.name} twice, by {dict(overrides)!r}",
                "runs that differ",
                "remove one of them from get_sweep()",
            )
        runs[run.name] = run
    for run in runs.values():
        experiment.check_workdir(run.workdir, run.config)
    return list(runs.values())


def _read_sweep(config: str) -> list[Mapping[str, Any]]:
    mend = "return one dict of overrides a run, such as [{'seed': 0}, {'seed': 1}]"
    sweep = experiment.call_in_file(config, "get_sweep", mend, form_is_optional=True)
    runs = list(sweep) if isinstance(sweep, Iterable) else []
    if not runs or isinstance(sweep, Mapping | str):
        raise errors.invalid("get_sweep", sweep, "one dict of overrides or more", "return a list")
    for overrides in runs:
        if not isinstance(overrides, Mapping):
            raise errors.invalid(
                "get_sweep", overrides, "a dict of overrides", "{'seed': 0} is one"
            )
        for path, value in overrides.items():
            if isinstance(value, Mapping):
                raise errors.invalid(
                    f"config.{path}", value, "a value", "name the keys inside the section"
                )
    return runs


def _make_run(
    config: str, root: Path, overrides: Mapping[str, Any], extra: Sequence[str]
) -> SweepRun:
    chosen = [f"--config.{path}={value}" for path, value in sorted(overrides.items())]
    arguments = [f"--config={config}", *chosen, *extra]
    both = sorted({_path_of(flag) for flag in chosen} & {_path_of(flag) for flag in extra})
    if both:
        raise errors.invalid(
            "sweep", f"{both[0]} from get_sweep() and as a flag", "one of them", "drop the flag"
        )
    parsed = experiment.local_paths(_parse(arguments))
    experiment.check_config(parsed)
    values = {
        path: functools.reduce(operator.getitem, path.split("."), parsed)
        for path in sorted(overrides)
    }
    name = _name(values)
    workdir = root / name
    return SweepRun(name, values, parsed, workdir, (*arguments, f"--workdir={workdir}"))


def _path_of(flag: str) -> str:
    return flag.partition("=")[0].removeprefix("--")


def _parse(arguments: Sequence[str]) -> ConfigDict:
    """The config as `launch/train.py` gets it from these flags."""
    unknown = experiment.unknown_override(arguments)
    if unknown is not None:
        raise ValueError(unknown)
    config = experiment.read_config_file(arguments[0].partition("=")[2])
    argv = ["train.py", *arguments[1:]]
    values = flags.FlagValues()
    holder = config_flags.DEFINE_config_dict(
        "config", config, lock_config=True, flag_values=values, sys_argv=argv
    )
    try:
        values(argv, known_only=True)
    except (flags.Error, ValueError, TypeError, KeyError, AttributeError) as error:
        shown = " ".join(arguments[1:])
        raise errors.invalid(
            "sweep", f"{shown} ({error})", "keys and values that fit the config", "mend them"
        ) from error
    return holder.value


def _name(overrides: Mapping[str, Any]) -> str:
    """The overrides, where file systems take them, else the letters that they take and a digest.

    Example:
        >>> _name({"seed": 1, "training.learning_rate": 0.001})
        'seed=1,training.learning_rate=0.001'
        >>> _name({"data.path": "/data/A"}), _name({"data.path": "/data/a"})
        ('data.path=-data-a-e700ab66', 'data.path=-data-a-5b8403d1')
    """
    if not overrides:
        return "base"
    shown = {k: str(v).lower() if isinstance(v, bool) else str(v) for k, v in overrides.items()}
    name = ",".join(f"{path}={value}" for path, value in sorted(shown.items()))
    if len(name) <= _LONGEST_NAME and all(map(_SAFE.fullmatch, shown.values())):
        return name
    digest = hashlib.sha256(repr(sorted(shown.items())).encode()).hexdigest()
    safe = re.sub(r"[^a-z0-9._=,+-]+", "-", name.lower())
    return f"{safe[:_LONGEST_NAME]}-{digest[:8]}"
