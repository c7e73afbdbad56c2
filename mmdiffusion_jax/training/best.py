"""The checkpoint with the best evaluation, kept beside the newest ones."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np
from jax.experimental import multihost_utils

from mmdiffusion_jax import ranges
from mmdiffusion_jax.training.checkpoints import Checkpoints
from mmdiffusion_jax.training.options import TrainingOptions


class BestCheckpoint:
    """Keeps one step in a folder of its own; use it as a context manager.

    Args:
        folder: of the checkpoint; not made while `best_metric` is "".
        options: `best_metric` and `best_mode`.
        beside: the newest checkpoints. In a run of several processes only one of the two saves at a
            time, as Orbax's barriers do not distinguish them.

    Example:
        >>> import tempfile, jax.numpy as jnp
        >>> options = TrainingOptions(best_metric="loss")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with BestCheckpoint(folder, options) as best:
        ...         for step, loss in ((1, 0.5), (2, 0.3), (3, 0.4)):
        ...             best.offer(step, {"w": jnp.zeros(2)}, {"loss": loss}, {})
        ...     with Checkpoints(folder, read_only=True) as kept:
        ...         print(kept.steps())
        [2]
    """

    def __init__(
        self, folder: Path | str, options: TrainingOptions, beside: Checkpoints | None = None
    ) -> None:
        self._beside = beside if jax.process_count() > 1 else None
        self._metric = options.best_metric
        self._sign = 1.0 if options.best_mode == "max" else -1.0
        self._step, self._value = -1, -math.inf
        self._by_another = -1  # the step that is kept by another metric
        self._checkpoints: Checkpoints | None = None
        if self._metric:
            self._checkpoints = Checkpoints(folder, keep=1)
            step, position = self._checkpoints.newest_position() or (-1, {})
            self._checkpoints.trim()
            if position.get("metric") == self._metric:
                self._step, self._value = step, self._sign * position["value"]
            else:
                self._by_another = step

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self._checkpoints is not None:
            self._checkpoints.__exit__(kind, error, trace)

    def poll(self) -> None:
        """Has the last save sealed if it is done, as `Checkpoints.poll`."""
        if self._checkpoints is not None:
            self._checkpoints.poll()

    def wait(self) -> None:
        """Waits until the last save is done and sealed, as `Checkpoints.wait`."""
        if self._checkpoints is not None:
            self._checkpoints.wait()

    def offer(
        self, step: int, state: Any, figures: Mapping[str, float], position: Mapping[str, Any]
    ) -> None:
        """Saves a state if its evaluation {metric: value} is better than every one before.

        The position is saved with metric and value added.

        Raises:
            ValueError: figures without the metric.
        """
        if self._checkpoints is None:
            return
        ranges.check_one_of("training.best_metric", self._metric, figures)
        value = self._sign * float(figures[self._metric])
        # A run that was interrupted evaluates its best step again.
        better = step > self._step and value > self._value
        if jax.process_count() > 1:
            better = bool(multihost_utils.broadcast_one_to_all(np.asarray(better)))
        if better:
            self._step, self._value = step, value
            position = {**position, "metric": self._metric, "value": self._sign * value}
            if self._beside is not None:
                self._beside.wait()
            if step <= self._by_another:  # a folder takes no step before those that it has
                self._checkpoints.trim(keep=0)
            self._by_another = -1
            self._checkpoints.save(step, state, position)
            if self._beside is not None:
                self._checkpoints.wait()
