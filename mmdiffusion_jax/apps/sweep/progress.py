"""How far a run is, read from its folder."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from absl import logging
from flax import traverse_util
from ml_collections import ConfigDict

from mmdiffusion_jax import experiment, training
from mmdiffusion_jax.apps.sweep.expand import SweepRun
from mmdiffusion_jax.training.step_folders import StepFolders

# Holds the exit code of a run that failed on this machine, until it is started again.
EXIT_CODE_FILE = "exit_code"

# Of the settings that a run may go on with, those by which a run that is done has other figures.
_OF_FIGURES = ("training.num_steps", "evaluation.")


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        step: the newest in its metrics, 0 before the first.
        num_steps: of the whole run.
        done: whether the last step is trained, evaluated and saved, or one beyond it.
        exit_code: of a failure on this machine, None without one.
        metrics: the newest value of each.
        changes: the settings of a run that is done that are others now, in words.
    """

    step: int
    num_steps: int
    done: bool
    exit_code: int | None
    metrics: Mapping[str, float]
    changes: tuple[str, ...] = ()

    @property
    def state(self) -> str:
        """How far the run is, in words.

        Example:
            >>> Progress(40, 100, False, None, {}).state, Progress(0, 100, False, 1, {}).state
            ('step 40 of 100', 'failed with exit code 1')
            >>> Progress(100, 40, True, None, {}).state
            'step 100, beyond num_steps 40'
        """
        if self.exit_code is not None and not self.done:
            return f"failed with exit code {self.exit_code}"
        if self.step > self.num_steps:
            return f"step {self.step}, beyond num_steps {self.num_steps}"
        if self.done:
            return "done"
        if self.step == self.num_steps:
            return f"step {self.step}, to be evaluated"
        return f"step {self.step} of {self.num_steps}" if self.step else "not started"


def progress_of(run: SweepRun) -> Progress:
    """Reads how far a run is.

    Raises:
        ValueError: damaged metrics.

    Example:
        >>> import tempfile
        >>> from mmdiffusion_jax.apps.sweep.expand import expand_sweep
        >>> progress_of(expand_sweep("configs/smoke.py", tempfile.mkdtemp())[0]).num_steps
        100
    """
    file = run.workdir / "metrics.jsonl"
    lines = training.read_metrics(file) if file.exists() else []
    steps = [line["step"] for line in lines if "train/loss" in line]
    step = steps[-1] if steps else 0
    options = experiment.read_settings(run.config).training
    metrics = {name: value for line in lines for name, value in line.items() if name != "step"}
    failure = run.workdir / EXIT_CODE_FILE
    saved = step >= options.num_steps and step in StepFolders(run.workdir / "checkpoints").steps()
    # A run whose last evaluation failed has its checkpoint all the same.
    evaluated = not options.eval_every or any(
        name.startswith("eval/") for line in lines if line["step"] == step for name in line
    )
    done = saved and evaluated and not failure.exists()
    return Progress(
        step=step,
        num_steps=options.num_steps,
        done=done,
        exit_code=json.loads(failure.read_text()) if failure.exists() else None,
        metrics=metrics,
        changes=_changes(run) if done else (),
    )


def warn_of_changes(progresses: Iterable[Progress]) -> None:
    """Says in one line which settings have changed since runs were done, as their figures have not.

    Example:
        >>> warn_of_changes([Progress(100, 100, True, None, {}, ("evaluation.seed 1 (0 there)",))])
    """
    changed = [progress.changes for progress in progresses if progress.changes]
    if changed:
        logging.warning(
            "Of the runs that are done %d keep steps and figures of other settings: %s. Train the "
            "sweep in another folder for those of these settings.",
            len(changed),
            ", ".join(sorted({change for changes in changed for change in changes})),
        )


def _changes(run: SweepRun) -> tuple[str, ...]:
    if not (run.workdir / "config.json").exists():
        return ()
    theirs, ours = map(_of_figures, (experiment.read_config(run.workdir), run.config))
    return tuple(
        f"{key} {value} ({theirs[key]} there)"
        for key, value in ours.items()
        if value != theirs[key]
    )


def _of_figures(config: ConfigDict) -> dict[str, Any]:
    values = traverse_util.flatten_dict(experiment.read_settings(config).to_dict(), sep=".")
    return {key: value for key, value in values.items() if key.startswith(_OF_FIGURES)}
