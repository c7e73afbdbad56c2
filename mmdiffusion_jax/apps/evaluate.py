"""Evaluates trained experiments."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from ml_collections import ConfigDict

from mmdiffusion_jax import data, evaluation, experiment, files, report
from mmdiffusion_jax.apps.train import load, open_moved_data
from mmdiffusion_jax.evaluation import Figure, RealData, ShamTest

# Longer than the names of most figures, as a line is printed before the next name is known.
_WIDTH = 40


def evaluate(
    workdirs: Sequence[str],
    checkpoint: str = "newest",
    places: Mapping[str, str] | None = None,
    **options: Any,
) -> list[list[Figure]]:
    """Evaluates each workdir: prints each figure as it is computed, and writes `metrics.json`.

    Before the figures comes what their judges make of real images and of shams, with a warning for
    each that a judge takes for real.
    Judges are fitted once for workdirs in a row whose configs differ in nothing that concerns them.
    A figure that these data do not allow is left out, and the reason is printed in its place.
    `metrics.json` has {figure: value}, and beside these `num_examples` {figure: how many examples
    it counts}, `left_out` {figure: reason} and the name of the `features`, if any. Where the
    workdir cannot be written to, the figures are printed only.

    Args:
        workdirs: trained experiments; of several, mean and standard deviation are printed over
            those that have the figure, if all have the same features and numbers of samples.
        checkpoint: "newest" or "best".
        places: {key of `config.data`: where the data are now}, if they have moved.
        **options: fields of `SamplingOptions`, in place of the experiments' own; figures with
            other options, or of another checkpoint than the newest, are printed only.

    Returns:
        The figures of each.

    Raises:
        ValueError: bad options, a workdir without a trained experiment, or features from files that
            do not take its images.
    """
    workdirs = [str(files.to_path(path, "workdir")) for path in workdirs]
    for workdir in workdirs:
        experiment.read_config(workdir)
    runs, judged_by = [], {}
    judging: dict[str, tuple[RealData, ShamTest]] = {}
    for workdir in workdirs:
        config, built, params = load(workdir, options, checkpoint)
        train, test = open_moved_data(workdir, config, places)
        print(f"# {workdir}: {_presence(built.model.modalities, test)}", flush=True)
        real, shams = None, None
        if evaluation.RealData.serves(built):
            key = _judged(config, test)
            if key not in judging:
                real = evaluation.RealData(built, train, test)
                real.check()
                judging = {key: (real, evaluation.sham_test(real))}
            real, shams = judging[key]
            print(shams.report(), flush=True)
            print(f"Features: {shams.features}", flush=True)
            judged_by[workdir] = f"{shams.features} and {real.num_samples} samples"
        figures = []
        for figure in evaluation.evaluate(built, params, train, test, real):
            print(figure.line(_WIDTH), flush=True)
            figures.append(figure)
        if not options and checkpoint == "newest":
            _write(files.to_path(workdir), figures, shams)
        else:
            print(
                "# printed only: metrics.json is of the newest checkpoint by the workdir's config"
            )
        runs.append(figures)
    if len(runs) > 1 and len({*judged_by.values()}) > 1:
        print(f"# no means over runs that are judged by different {_listed(judged_by)}")
    elif len(runs) > 1:
        print("\n".join(_spread([evaluation.values_of(figures) for figures in runs])))
    return runs


def _listed(judged_by: Mapping[str, str]) -> str:
    return ", ".join(f"{judges} ({workdir})" for workdir, judges in judged_by.items())


def _judged(config: ConfigDict, test: data.Source) -> str:
    """What real data and their judges depend on, the same of runs that differ in their seeds.

    Where columns are derived, such as hidden squares, the seed says what test examples have.
    """
    values = config.to_dict()
    for section in ("training", "init_from", "loss", "sampling"):
        values.pop(section, None)
    if not isinstance(test, data.Derived):
        del values["seed"]
    return json.dumps(values, sort_keys=True, default=str)


def _presence(names: Iterable[str], test: data.Source) -> str:
    """How many test examples there are, and in how many a modality is present."""
    counts = data.count_present(test, names)
    words = [f"{len(test)} test examples"]
    words += [f"{name!r} in {count} of them" for name, count in counts.items() if count < len(test)]
    return ", ".join(words)


def _write(folder: Path, figures: Sequence[Figure], shams: ShamTest | None) -> None:
    plain: dict[str, Any] = _plain(evaluation.values_of(figures))
    plain["num_examples"] = evaluation.counts_of(figures)
    plain["left_out"] = {x.name: x.reason for x in figures if x.value is None}
    if shams is not None:
        plain["features"] = shams.features
        plain["sham_test"] = {"warnings": shams.warnings, "figures": _plain(shams.figures)}
    file = folder / "metrics.json"
    try:
        files.write_text(file, json.dumps(plain, indent=2) + "\n")
    except OSError as error:
        logging.warning("%s is not written (%s); the figures are those above.", file, error)
        return
    report.try_to_write(folder)


def _plain(values: Mapping[str, float]) -> dict[str, float | str]:
    """JSON has no number that is not finite."""
    return {name: x if math.isfinite(x) else str(x) for name, x in values.items()}


def _spread(runs: Sequence[dict[str, float]]) -> list[str]:
    """Means and standard deviations of every figure, over the runs that have it."""
    lines = [f"# mean and standard deviation over {len(runs)} runs"]
    for name in dict.fromkeys(name for values in runs for name in values):
        values = [run[name] for run in runs if name in run]
        line = f"{name:<{_WIDTH}}  {np.mean(values):.4f}"
        if len(values) > 1:
            line += f" ± {np.std(values, ddof=1):.4f}"
        if len(values) < len(runs):
            line += f"  ({len(values)} of {len(runs)} runs)"
        lines.append(line)
    return lines
