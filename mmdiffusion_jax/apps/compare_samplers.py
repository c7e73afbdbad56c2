"""Compares samplers on trained experiments."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from absl import logging

from mmdiffusion_jax import errors, evaluation, experiment, files, ranges
from mmdiffusion_jax.apps.train import load, open_moved_data


def compare_samplers(
    workdirs: Sequence[str],
    out: str,
    samplers: Sequence[str],
    steps: Sequence[int],
    places: Mapping[str, str] | None = None,
    **options: Any,
) -> str:
    """Prints a table of samplers × states; writes `samplers.md`, `.json` and `.png` into `out`.

    Args:
        workdirs: trained experiments of one kind; of several, means and spreads are given.
        out: the folder for the results.
        samplers: names of `sampling.SAMPLERS`.
        steps: numbers of states.
        places: {key of `config.data`: where the data are now}, if they have moved.
        **options: fields of `SamplingOptions`, in place of the experiments' own.

    Returns:
        The table.

    Raises:
        ValueError: unknown samplers, numbers out of range, a folder that cannot be written to, or
            a workdir without a trained experiment with a primary image.
    """
    for name, mend in (("sampler", "samplers"), ("num_steps", "steps"), ("eta", "samplers")):
        if name in options:
            raise errors.invalid(name, options[name], "nothing, as all are compared", f"see {mend}")
    folder = files.writable_folder(out, "out")
    ranges.check_each_once("samplers", samplers)
    ranges.check_each_once("steps", steps)
    opened = [(workdir, *load(workdir, options)) for workdir in workdirs]
    _check_alike({workdir: built for workdir, _, built, _ in opened})
    runs = []
    for workdir, config, built, params in opened:
        splits = open_moved_data(workdir, config, places)
        run = []
        for figures in evaluation.compare_samplers(built, params, *splits, samplers, steps):
            logging.info("%s: %s", workdir, figures)
            run.append(figures)
        runs.append(run)
    table = evaluation.sampler_table(runs)
    folder.mkdir(parents=True, exist_ok=True)
    records = [[dataclasses.asdict(figures) for figures in run] for run in runs]
    files.write_text(folder / "samplers.json", json.dumps(records, indent=1) + "\n")
    files.write_text(folder / "samplers.md", table + "\n")
    evaluation.plot_samplers(runs, folder / "samplers.png")
    print(table)
    return table


def _check_alike(runs: Mapping[str, experiment.Experiment]) -> None:
    """Checks that figures of several workdirs may be averaged.

    Raises:
        ValueError: other numbers of samples or steps of the process, or other features.
    """
    first, *others = runs
    for name, of in (
        ("process.num_steps", lambda built: built.process.num_steps),
        ("evaluation.num_samples", lambda built: built.evaluation.num_samples),
        ("evaluation.features", lambda built: built.evaluation.features),
    ):
        for other in others:
            if of(runs[other]) != of(runs[first]):
                raise errors.invalid(
                    "workdir",
                    f"{other} with {name} {of(runs[other])!r}",
                    f"{of(runs[first])!r}, as {first} has, for means over both",
                    "compare them one by one",
                )
