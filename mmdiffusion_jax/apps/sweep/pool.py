"""Trains the runs of a sweep on this machine, some at a time."""

import collections
import shlex
import subprocess
import time
from collections.abc import Sequence

from absl import logging

from mmdiffusion_jax import errors, files
from mmdiffusion_jax.apps.start import RESTART_CODE
from mmdiffusion_jax.apps.sweep.expand import SweepRun
from mmdiffusion_jax.apps.sweep.progress import EXIT_CODE_FILE, progress_of, warn_of_changes
from mmdiffusion_jax.training.preemption import StopSignal

_POLL_SECONDS, _LOG = 0.1, "log.txt"


def train_sweep(
    runs: Sequence[SweepRun], train: Sequence[str], max_parallel: int = 1, restarts: int = 3
) -> int:
    """Trains the runs that are not done, each in its own process; one that fails stops no other.

    What a run prints goes to `log.txt` in its folder. A run that ends with exit code 75 has saved a
    checkpoint and is started again. SIGTERM or Ctrl-C ends the runs after a checkpoint, a second
    Ctrl-C at once; the same call goes on.

    Args:
        runs: from `expand_sweep`.
        train: the command that a run's arguments are added to: Python and `launch/train.py`.
        max_parallel: how many train at once.
        restarts: how often a run is started again.

    Returns:
        An exit code: 0 when all are done, 1 when one failed, 75 when the sweep was stopped or a run
        wants to be started once more.

    Raises:
        ValueError: `max_parallel` below 1, `restarts` below 0, or a folder that cannot be written
            to.

    Example:
        >>> import tempfile
        >>> from mmdiffusion_jax.apps.sweep.expand import expand_sweep
        >>> root = tempfile.mkdtemp()
        >>> runs = expand_sweep("configs/smoke.py", root)
        >>> train_sweep(runs, ["true"]), train_sweep(runs, ["false"])
        (0, 1)
    """
    for argument, got, least in (("max_parallel", max_parallel, 1), ("restarts", restarts, 0)):
        if got < least:
            raise errors.invalid(argument, got, f"{least} or more", "raise it")
    progresses = [progress_of(run) for run in runs]
    waiting = collections.deque(run for run, at in zip(runs, progresses) if not at.done)
    if waiting:  # else the table follows at once, which says it too
        warn_of_changes(progresses)
    for run in waiting:
        files.writable_folder(run.workdir, "workdir")
    logging.info("%d runs, %d of them done.", len(runs), len(runs) - len(waiting))
    starts: collections.Counter[str] = collections.Counter()
    active: dict[str, tuple[SweepRun, _Process]] = {}
    codes: dict[str, int] = {}
    terminated = False
    try:
        with StopSignal() as stop:
            while active or (waiting and not stop.received):
                while waiting and len(active) < max_parallel and not stop.received:
                    run = waiting.popleft()
                    starts[run.name] += 1
                    logging.info("%s: start %d.", run.name, starts[run.name])
                    active[run.name] = (run, _Process(run, train))
                time.sleep(_POLL_SECONDS)
                if stop.received and not terminated:
                    logging.warning("Stopping %d runs; run again to go on.", len(active))
                    for _, started in active.values():
                        started.process.terminate()
                    terminated = True
                for name, (run, started) in list(active.items()):
                    code = started.poll()
                    if code is None:
                        continue
                    del active[name]
                    if code == RESTART_CODE and starts[name] <= restarts and not stop.received:
                        waiting.appendleft(run)
                        continue
                    # A process that is stopped before it handles signals ends by the signal.
                    codes[name] = RESTART_CODE if terminated and code < 0 else code
                    logging.info("%s: exit code %d.", name, codes[name])
                    if codes[name] not in (0, RESTART_CODE):
                        files.write_text(run.workdir / EXIT_CODE_FILE, f"{codes[name]}\n")
    finally:
        for _, started in active.values():
            started.kill()
    if stop.received:
        return RESTART_CODE
    if set(codes.values()) - {0, RESTART_CODE}:
        return 1
    return max(codes.values(), default=0)


def sweep_commands(runs: Sequence[SweepRun], train: Sequence[str]) -> list[str]:
    """The commands `train …` of the runs that are not done, to be pasted into a shell.

    Raises:
        ValueError: damaged metrics.

    Example:
        >>> import tempfile
        >>> from mmdiffusion_jax.apps.sweep.expand import expand_sweep
        >>> runs = expand_sweep("configs/smoke.py", tempfile.mkdtemp())
        >>> sweep_commands(runs, ["python", "launch/train.py"])[0].split(" --workdir")[0]
        'python launch/train.py --config=configs/smoke.py --config.seed=0 ...'
    """
    progresses = [progress_of(run) for run in runs]
    warn_of_changes(progresses)
    return [shlex.join([*train, *x.arguments]) for x, at in zip(runs, progresses) if not at.done]


class _Process:
    """A run's process, which writes what it prints to `log.txt` in the workdir."""

    def __init__(self, run: SweepRun, train: Sequence[str]) -> None:
        run.workdir.mkdir(parents=True, exist_ok=True)
        (run.workdir / EXIT_CODE_FILE).unlink(missing_ok=True)
        self._copied, before = files.Copied(run.workdir), run.workdir / _LOG
        log = self._copied.disk / _LOG
        if log != before and before.exists():
            log.write_bytes(before.read_bytes())
        with log.open("ab") as stream:
            # A session of its own: Ctrl-C reaches the sweep alone, which then ends its runs.
            self.process = subprocess.Popen(
                [*train, *run.arguments],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def poll(self) -> int | None:
        """The exit status, or None while it runs."""
        code = self.process.poll()
        if code is None:
            self._copied.copy_if_due()
        else:
            self._copied.close()
        return code

    def kill(self) -> None:
        """Ends it at once, if it runs."""
        self.process.kill()
        self.process.wait()
        self._copied.close()
