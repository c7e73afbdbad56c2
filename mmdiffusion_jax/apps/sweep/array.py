"""Queues the runs of a sweep as one array of SLURM jobs."""

import hashlib
import itertools
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from mmdiffusion_jax import errors, files
from mmdiffusion_jax.apps.sweep.expand import SweepRun
from mmdiffusion_jax.apps.sweep.progress import EXIT_CODE_FILE, progress_of, warn_of_changes


def write_array(
    runs: Sequence[SweepRun],
    workdir: str,
    script: str,
    max_parallel: int | None = None,
    options: Sequence[str] = (),
) -> list[str]:
    """Writes the file of runs; returns the command that queues those that are not done.

    Each line of the file has the arguments of one run, quoted as for a shell, and job k of the
    array takes line k. The file is named by its content, so that it never changes under jobs that
    are queued.

    Args:
        runs: from `expand_sweep`.
        workdir: the folder of the sweep, which gets the file and what the jobs print.
        script: `launch/slurm.sbatch`.
        max_parallel: how many jobs run at once; None for no limit.
        options: further options of `sbatch`.

    Returns:
        The command, empty when all runs are done.

    Raises:
        ValueError: `max_parallel` below 1.

    Example:
        >>> import tempfile
        >>> from mmdiffusion_jax.apps.sweep.expand import expand_sweep
        >>> root = tempfile.mkdtemp()
        >>> runs = expand_sweep("configs/smoke.py", root)
        >>> write_array(runs, root, "launch/slurm.sbatch", max_parallel=2)[:2]
        ['sbatch', '--array=1-4%2']
    """
    if max_parallel is not None and max_parallel < 1:
        raise errors.invalid("max_parallel", max_parallel, "1 or more", "raise it")
    progresses = [progress_of(run) for run in runs]
    warn_of_changes(progresses)
    undone = [number for number, progress in enumerate(progresses, 1) if not progress.done]
    if not undone:
        return []
    for run in runs:
        (run.workdir / EXIT_CODE_FILE).unlink(missing_ok=True)
    text = "".join(shlex.join(run.arguments) + "\n" for run in runs)
    root = files.writable_folder(workdir, "workdir")
    if isinstance(root, files.BucketPath):
        root = Path.cwd()  # SLURM writes its logs, and its script reads the file, on disks alone
    root.mkdir(parents=True, exist_ok=True)
    file = root / f"runs-{hashlib.sha256(text.encode()).hexdigest()[:8]}.txt"
    files.write_text(file, text)
    limit = "" if max_parallel is None else f"%{max_parallel}"
    return [
        "sbatch",
        *options,
        f"--array={_spans(undone)}{limit}",
        f"--output={root / 'slurm-%A_%a.out'}",
        script,
        f"--sweep_file={file}",
    ]


def _spans(numbers: Iterable[int]) -> str:
    """Rising numbers as SLURM writes them.

    Example:
        >>> _spans([1, 2, 3, 5, 8, 9])
        '1-3,5,8-9'
    """
    spans = []
    for _, group in itertools.groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        span = [number for _, number in group]
        spans.append(str(span[0]) if len(span) == 1 else f"{span[0]}-{span[-1]}")
    return ",".join(spans)
