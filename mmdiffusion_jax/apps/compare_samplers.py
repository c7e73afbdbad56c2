"""Compares samplers on trained experiments."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from absl import logging

from mmdiffusion_jax import errors, evaluation, files
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
    runs = []
    for workdir in workdirs:
        config, built, params = load(workdir, options)
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
