"""How far a run is, read from its folder."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from mmdiffusion_jax import experiment, training
from mmdiffusion_jax.apps.sweep.expand import SweepRun

# Holds the exit code of a run that failed on this machine, until it is started again.
EXIT_CODE_FILE = "exit_code"


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        step: the newest in its metrics, 0 before the first.
        num_steps: of the whole run.
        done: whether the last step is trained and saved.
        exit_code: of a failure on this machine, None without one.
        metrics: the newest value of each.
    """

    step: int
    num_steps: int
    done: bool
    exit_code: int | None
    metrics: Mapping[str, float]

    @property
    def state(self) -> str:
        """How far the run is, in words.

        Example:
            >>> Progress(40, 100, False, None, {}).state, Progress(0, 100, False, 1, {}).state
            ('step 40 of 100', 'failed with exit code 1')
        """
        if self.done:
            return "done"
        if self.exit_code is not None:
            return f"failed with exit code {self.exit_code}"
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
    num_steps = experiment.read_settings(run.config).training.num_steps
    metrics = {name: value for line in lines for name, value in line.items() if name != "step"}
    failure = run.workdir / EXIT_CODE_FILE
    return Progress(
        step=step,
        num_steps=num_steps,
        done=step >= num_steps and (run.workdir / "checkpoints" / str(step)).is_dir(),
        exit_code=json.loads(failure.read_text()) if failure.exists() else None,
        metrics=metrics,
    )
