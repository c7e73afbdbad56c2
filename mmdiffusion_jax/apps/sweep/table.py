"""The results of a sweep as one table."""

import csv
import io
from collections.abc import Sequence
from typing import Any

from mmdiffusion_jax import errors, files
from mmdiffusion_jax.apps.sweep.expand import SweepRun
from mmdiffusion_jax.apps.sweep.progress import Progress, progress_of, warn_of_changes

_FIRST = "eval/loss"


def collect_sweep(
    runs: Sequence[SweepRun], workdir: str, metrics: Sequence[str] | None = None
) -> str:
    """The table of a sweep: a row a run, with overrides, step, state and metrics.

    Rows are sorted by the first metric, the least first; runs without it come last, in the sweep's
    order. A warning says where runs that are done have figures by other settings than these. Also
    written as `sweep.csv`, with all digits, and `sweep.md` into `workdir`.

    Args:
        runs: from `expand_sweep`.
        workdir: the folder of the sweep.
        metrics: which, by their names in `metrics.jsonl`; None for all of the evaluations, the loss
            first.

    Returns:
        The table in Markdown.

    Raises:
        ValueError: a metric that no evaluated run has, or damaged metrics.

    Example:
        >>> import tempfile
        >>> from mmdiffusion_jax.apps.sweep.expand import expand_sweep
        >>> root = tempfile.mkdtemp()
        >>> runs = expand_sweep("configs/smoke.py", root)
        >>> print(collect_sweep(runs[:1], root))
        | run | seed | training.learning_rate | step | state |
        | --- | --- | --- | --- | --- |
        | seed=0,training.learning_rate=0.001 | 0 | 0.001 | 0 | not started |
    """
    progresses = [progress_of(run) for run in runs]
    warn_of_changes(progresses)
    known = {name for progress in progresses for name in progress.metrics}
    if metrics is None:
        metrics = sorted(
            (name for name in known if name.startswith("eval/")), key=lambda n: (n != _FIRST, n)
        )
    for name in metrics:
        if known and name not in known:
            raise errors.unknown("metrics", name, known)
    keys = sorted({path for run in runs for path in run.overrides})
    rows = [
        [run.name, *(run.overrides.get(key, "") for key in keys), progress.step, progress.state]
        + [progress.metrics.get(name, "") for name in metrics]
        for run, progress in sorted(zip(runs, progresses), key=lambda pair: _rank(pair[1], metrics))
    ]
    header = ["run", *keys, "step", "state", *metrics]
    table = "\n".join(map(_line, [header, ["---"] * len(header), *rows]))
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    root = files.writable_folder(workdir, "workdir")
    root.mkdir(parents=True, exist_ok=True)
    files.write_text(root / "sweep.csv", text.getvalue())
    files.write_text(root / "sweep.md", table + "\n")
    return table


def _rank(progress: Progress, metrics: Sequence[str]) -> tuple[bool, float]:
    value = progress.metrics.get(metrics[0]) if metrics else None
    # A loss that is not a number is worse than any.
    return (True, 0.0) if value is None or value != value else (False, value)


def _line(cells: Sequence[Any]) -> str:
    shown = [f"{x:.5g}" if isinstance(x, float) else str(x).replace("|", "\\|") for x in cells]
    return f"| {' | '.join(shown)} |"
