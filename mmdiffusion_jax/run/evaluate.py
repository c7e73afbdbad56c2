"""Evaluating trained experiments."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmdiffusion_jax import evaluation, experiment, files
from mmdiffusion_jax.run.train import load


def evaluate(
    workdirs: Sequence[str], checkpoint: str = "newest", **options: Any
) -> list[dict[str, float]]:
    """Evaluates each workdir: prints a table and writes `metrics.json` into it.

    Args:
        workdirs: trained experiments; of several, the mean and the standard deviation are printed.
        checkpoint: "newest" or "best".
        **options: fields of `SamplingOptions`, in place of the experiments' own; figures with
            other options, or of another checkpoint than the newest, are printed only.

    Returns:
        The figures of each.

    Raises:
        ValueError: bad options, or a workdir without a trained experiment.
    """
    found = []
    for workdir in workdirs:
        config, built, params = load(workdir, options, checkpoint)
        figures = evaluation.evaluate(built, params, *experiment.open_data(config))
        if not options and checkpoint == "newest":
            text = json.dumps(figures, indent=2) + "\n"
            files.write_text(Path(workdir) / "metrics.json", text)
        print(f"# {workdir}\n{evaluation.table(figures)}", flush=True)
        found.append(figures)
    if len(found) > 1:
        print(f"# mean and standard deviation over {len(found)} runs")
        width = max(map(len, found[0]))
        for name in found[0]:
            values = [figures[name] for figures in found]
            print(f"{name:<{width}}  {np.mean(values):.4f} ± {np.std(values, ddof=1):.4f}")
    return found
