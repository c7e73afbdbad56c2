"""The only training loop: resume, step, log, evaluate, draw, checkpoint."""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging
from tqdm import tqdm

from mmdiffusion_jax import errors
from mmdiffusion_jax.training.checkpoints import Checkpoints
from mmdiffusion_jax.training.preemption import StopSignal
from mmdiffusion_jax.training.state import TrainState
from mmdiffusion_jax.training.step import Step
from mmdiffusion_jax.training.writers import MetricWriter


@dataclasses.dataclass(frozen=True)
class TrainingOptions:
    """How long and how to train; intervals are in steps, 0 switches one off.

    Attributes:
        num_steps: steps of the whole run.
        batch_size: examples a step, of all devices together.
        learning_rate: the peak.
        warmup_steps: from zero to the peak.
        weight_decay: of AdamW, matrices only.
        gradient_clip: greatest global norm of the gradient.
        ema_decay: of the parameters' moving average.
        log_every: metrics are averaged over and written at this interval.
        eval_every: evaluation on the test split.
        sample_every: a picture of samples.
        checkpoint_every: a checkpoint; the last step always has one.
        keep: how many checkpoints stay.

    Raises:
        ValueError: a value out of its range.
    """

    num_steps: int = 4000
    batch_size: int = 64
    learning_rate: float = 2e-3
    warmup_steps: int = 200
    weight_decay: float = 1e-4
    gradient_clip: float = 1.0
    ema_decay: float = 0.995
    log_every: int = 100
    eval_every: int = 1000
    sample_every: int = 1000
    checkpoint_every: int = 1000
    keep: int = 3

    def __post_init__(self) -> None:
        for name, least in (("num_steps", 1), ("batch_size", 1), ("keep", 1), ("log_every", 1)):
            if getattr(self, name) < least:
                raise ValueError(
                    errors.message(
                        f"training.{name}", getattr(self, name), f"{least} or more", "raise it"
                    )
                )
        for name in ("learning_rate", "gradient_clip"):
            if not getattr(self, name) > 0:
                raise ValueError(
                    errors.message(f"training.{name}", getattr(self, name), "above 0", "raise it")
                )
        if not 0 <= self.ema_decay < 1:
            raise ValueError(
                errors.message(
                    "training.ema_decay", self.ema_decay, "a decay in [0, 1)", "change it"
                )
            )


def train(
    options: TrainingOptions,
    workdir: Path,
    state: TrainState,
    step: Step,
    open_batches: Callable[[int], Iterator[Mapping[str, jax.Array]]],
    evaluate: Callable[[Any], Mapping[str, float]],
    picture: Callable[[Any], np.ndarray],
) -> TrainState:
    """Trains from the newest checkpoint in `workdir`, or from `state`, to the last step.

    Between two log intervals nothing waits for the device: metrics stay there until they are
    averaged and written. SIGTERM or Ctrl-C ends the run after a step, with a checkpoint.

    Args:
        options: how long, and at which intervals.
        workdir: gets `checkpoints/`, `metrics.jsonl`, `tensorboard/` and `samples/`.
        state: a fresh state; also the template for restoring.
        step: from `make_step`; gives up the state it is handed.
        open_batches: global example counter → batches on the devices from there on.
        evaluate: averaged parameters → scalars, written as `eval/…`.
        picture: averaged parameters → an image (height, width, 3) uint8 of samples.

    Returns:
        The state after the last step taken.

    Raises:
        FloatingPointError: when the loss is no longer finite; the checkpoints are left as they are.
        ValueError: when no checkpoint in `workdir` can be read.
    """
    with (
        Checkpoints(workdir / "checkpoints", keep=options.keep) as checkpoints,
        StopSignal() as stop,
    ):
        restored = checkpoints.restore(state)
        start = 0
        if restored is not None:
            start, state = restored.step, restored.state
            logging.info("Resuming from step %d.", start)
        if start >= options.num_steps:
            logging.info("Nothing to do: the run is at step %d of %d.", start, options.num_steps)
            return state
        batches = open_batches(start * options.batch_size)
        pending: list[Mapping[str, jax.Array]] = []
        begun = time.monotonic()
        with (
            MetricWriter(workdir, resume_step=start) as writer,
            tqdm(total=options.num_steps, initial=start, unit="step", mininterval=1.0) as bar,
        ):
            for index in range(start + 1, options.num_steps + 1):
                batch = next(batches)
                with jax.transfer_guard("disallow"):
                    state, metrics = step(state, batch)
                pending.append(metrics)
                bar.update()
                # Read once: a signal that comes later ends the next step, which then is saved.
                stopping = stop.received
                last = index == options.num_steps or stopping
                if last or index % options.log_every == 0:
                    means = _means(pending)
                    rate = len(pending) / (time.monotonic() - begun)
                    writer.write(
                        index, {**_prefixed("train", means), "train/steps_per_second": rate}
                    )
                    _require_finite(index, means)
                    bar.set_postfix(loss=f"{means['loss']:.4f}")
                    checkpoints.poll()
                    pending, begun = [], time.monotonic()
                paused = time.monotonic()
                if index == options.num_steps or _due(index, options.eval_every):
                    writer.write(index, _prefixed("eval", evaluate(state.ema)))
                if index == options.num_steps or _due(index, options.sample_every):
                    writer.write_image(index, "samples", picture(state.ema))
                # Last, so that a run cut off before it repeats the evaluation when it resumes.
                if last or _due(index, options.checkpoint_every):
                    checkpoints.save(index, state, {"next_example": index * options.batch_size})
                begun += time.monotonic() - paused
                if stopping:
                    logging.warning("Stopped by a signal at step %d; run again to go on.", index)
                    break
    return state


def _due(index: int, interval: int) -> bool:
    return interval > 0 and index % interval == 0


def _means(pending: list[Mapping[str, jax.Array]]) -> dict[str, float]:
    values = jax.device_get(pending)
    return {name: float(np.mean([value[name] for value in values])) for name in values[0]}


def _prefixed(prefix: str, values: Mapping[str, float]) -> dict[str, float]:
    return {f"{prefix}/{name}": value for name, value in values.items()}


def _require_finite(index: int, means: Mapping[str, float]) -> None:
    if not math.isfinite(means["loss"]):
        raise FloatingPointError(
            errors.message(
                "loss",
                f"{means['loss']} at step {index}",
                "a finite number",
                "lower training.learning_rate or raise training.warmup_steps, then run again: "
                "it goes on from the last checkpoint",
            )
        )
