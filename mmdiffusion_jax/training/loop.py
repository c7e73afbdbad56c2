"""The only training loop: resume, step, log, evaluate, checkpoint, draw."""

import collections
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging
from jax.experimental import multihost_utils
from tqdm import tqdm

from mmdiffusion_jax import errors, files
from mmdiffusion_jax.training.best import BestCheckpoint
from mmdiffusion_jax.training.checkpoints import Checkpoints
from mmdiffusion_jax.training.options import TrainingOptions
from mmdiffusion_jax.training.preemption import StopSignal
from mmdiffusion_jax.training.report import StepReport, diagnose, summarise
from mmdiffusion_jax.training.sharding import on_this_process
from mmdiffusion_jax.training.speed import ProfileWindow, Stopwatch, compile_step
from mmdiffusion_jax.training.state import TrainState
from mmdiffusion_jax.training.step import Step
from mmdiffusion_jax.training.writers import MetricWriter, read_metrics

# Steps that the host may be ahead of the devices: more would only hold more batches in memory.
_AHEAD = 4


@dataclasses.dataclass(frozen=True)
class Monitor:
    """How a run is evaluated, pictured and profiled while it trains.

    Attributes:
        evaluate: averaged parameters → {name: value}, written as `eval/…`.
        picture: averaged parameters → an image (height, width, 3) uint8 of samples.
        profile: (first, last) step to record for XProf, or None.
        written: is called with a step when its evaluation, picture or checkpoint has been written,
            on the host alone; it must not raise.
    """

    evaluate: Callable[[Any], Mapping[str, float]]
    picture: Callable[[Any], np.ndarray]
    profile: tuple[int, int] | None = None
    written: Callable[[int], None] | None = None


def train(
    options: TrainingOptions,
    workdir: Path,
    state: TrainState,
    step: Step,
    open_batches: Callable[[int], Iterator[Mapping[str, jax.Array]]],
    monitor: Monitor,
    constants: Sequence[Any] = (),
) -> TrainState:
    """Trains from the newest checkpoint in `workdir`, or from `state`, to the last step.

    Between two log intervals reports stay on the devices; a checkpoint holds those that are not
    logged yet, so that a resumed run logs the same means. SIGTERM or Ctrl-C ends the run after a
    step, with a checkpoint. A step whose loss or gradient is not finite is left out. An evaluation
    that fails ends the run after the checkpoint of its step; where it was to choose between
    averages, there is none, and the steps since the last are taken again. A picture that cannot be
    drawn is a warning. An evaluation or a picture that is due and missing is made up for when the
    run is resumed. A run that is resumed with batches of another size goes on with the first whole
    one of examples not yet taken.

    Args:
        options: how long, and at which intervals.
        workdir: gets `checkpoints/`, `best/`, `metrics.jsonl`, `tensorboard/`, `samples/` and
            `profile/`.
        state: a fresh state; also the template for restoring.
        step: from `make_step`.
        open_batches: number of examples taken so far → the batches after them, on the devices.
        monitor: evaluates, draws and profiles.
        constants: of the loss.

    Returns:
        The state after the last step taken; fewer than `num_steps` where the run was stopped.

    Raises:
        FloatingPointError: when `max_skipped` steps in a row were not finite; it says what was not,
            and the checkpoints stay.
        ValueError: when no checkpoint in `workdir` can be read, or the evaluation lacks
            `best_metric`.
    """
    with (
        files.naming(workdir),
        Checkpoints(
            workdir / "checkpoints", keep=options.keep, keep_every=options.keep_every
        ) as checkpoints,
        StopSignal() as stop,
    ):
        template = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
        )
        if checkpoints.steps():
            # What is restored takes its place; devices have none for both.
            jax.tree.map(lambda x: x.delete(), state)
        restored = checkpoints.restore(template)
        checkpoints.trim()  # what a process that was killed had no time to delete
        start, first_example = 0, 0
        pending: list[StepReport] = []
        resumed: Mapping[str, Any] = {}
        averaged = state.ema
        if restored is not None:
            start, state, resumed = restored.step, restored.state, restored.position
            averaged = state.averaged(resumed)
            first_example = _next_batch(resumed["next_example"], options.batch_size)
            unlogged = resumed.get("unlogged", [])
            # An earlier version wrote them otherwise; then the next means are of fewer steps.
            pending = [StepReport.from_json(report) for report in unlogged if "scalars" in report]
            logging.info("Resuming from step %d.", start)
        lacks_picture = _lacks_picture(options, workdir, start)
        lacks_evaluation = _lacks_evaluation(options, workdir, start)

        def catch_up(writer: MetricWriter, best: BestCheckpoint) -> None:
            if lacks_evaluation:
                figures = monitor.evaluate(on_this_process(averaged))
                best.offer(start, state, figures, resumed)
                best.wait()  # before the line by which the evaluation counts as there
                writer.write(start, _prefixed("eval", figures))
            if lacks_picture:
                _draw(writer, start, averaged, monitor.picture)

        if start >= options.num_steps:
            logging.info("Nothing to do: the run is at step %d of %d.", start, options.num_steps)
            if lacks_picture or lacks_evaluation:
                with (
                    MetricWriter(workdir, resume_step=start) as writer,
                    BestCheckpoint(workdir / "best", options, checkpoints) as best,
                ):
                    catch_up(writer, best)
            return state
        batches = open_batches(first_example)
        batch = next(batches)
        compiled, cost = compile_step(step, state, batch, *constants)
        logging.info(
            "The step was compiled in %.1f s: %.3g FLOP and %.3g MB a device.",
            cost.compile_seconds,
            cost.flops,
            cost.memory_bytes / 1e6,
        )
        ahead: collections.deque[jax.Array] = collections.deque()
        window = ProfileWindow(workdir / "profile", monitor.profile)
        with (
            MetricWriter(workdir, resume_step=start) as writer,
            BestCheckpoint(workdir / "best", options, checkpoints) as best,
            tqdm(total=options.num_steps, initial=start, unit="step", mininterval=1.0) as bar,
        ):
            catch_up(writer, best)
            watch = Stopwatch(cost, options.batch_size)
            for index in range(start + 1, options.num_steps + 1):
                if index > start + 1:
                    batch = watch.fetch(batches)
                window.before(index)
                with jax.transfer_guard("disallow"):
                    state, report = compiled(state, batch, *constants)
                watch.count(report.numbers)
                pending.append(report)
                ahead.append(report.numbers)
                if len(ahead) > _AHEAD:
                    ahead.popleft().block_until_ready()
                window.after(index, report.numbers)
                bar.update()
                # Read once: a later signal ends the run after the next step, which then is saved.
                stopping = stop.requested(index)
                last = index == options.num_steps or stopping
                if index == options.num_steps or index % options.log_every == 0:
                    reports = jax.device_get(pending)
                    means = summarise(reports)
                    writer.write(index, {**_prefixed("train", means), **watch.lap()})
                    if means["skipped_steps"]:
                        _require_progress(options, index, reports)
                    bar.set_postfix(loss=f"{means['loss']:.4f}")
                    checkpoints.poll()
                    best.poll()
                    pending = []
                paused = time.monotonic()
                saving = last or _due(index, options.checkpoint_every, options.num_steps)
                taken = (index - start) * options.batch_size
                position: dict[str, Any] = {"next_example": first_example + taken}
                if saving and pending:
                    position["unlogged"] = [x.to_json() for x in jax.device_get(pending)]
                # A signal may leave little time: what is due is made up for on resuming.
                hurried = stopping and index < options.num_steps
                evaluating = _due(index, options.eval_every, options.num_steps) and not hurried
                choosing = bool(state.averages) and index == options.num_steps
                figures: Mapping[str, float] = {}
                try:
                    if choosing:
                        position["average"], figures = _choose_average(
                            writer, index, state, monitor
                        )
                    elif evaluating:
                        figures = monitor.evaluate(on_this_process(state.ema))
                except Exception:
                    if saving and not choosing:
                        writer.flush()
                        best.wait()
                        checkpoints.save(index, state, position)
                    raise
                if evaluating:
                    best.offer(index, state, figures, position)
                    writer.write(index, _prefixed("eval", figures))
                # After the evaluation, so that a run interrupted in it repeats it, and after the
                # best checkpoint is there, which a run that goes on from here does not make again.
                if saving:
                    writer.flush()
                    best.wait()
                    checkpoints.save(index, state, position)
                drawing = _due(index, options.sample_every, options.num_steps) and not hurried
                if drawing:
                    _draw(writer, index, state.averaged(position), monitor.picture)
                if monitor.written is not None and (saving or evaluating or drawing):
                    monitor.written(index)
                watch.pause(time.monotonic() - paused)
                if hurried:
                    logging.warning("Stopped by a signal at step %d; run again to go on.", index)
                    break
            window.close()
    return state


def _next_batch(example: int, batch_size: int) -> int:
    """The first example of the first whole batch from an example on, where its size has changed."""
    return -(-example // batch_size) * batch_size


def _due(index: int, interval: int, num_steps: int) -> bool:
    """Whether a step is at an interval, or the last one; an interval of 0 is never due."""
    return interval > 0 and (index % interval == 0 or index == num_steps)


def _lacks_picture(options: TrainingOptions, workdir: Path, start: int) -> bool:
    """Whether the picture of the step that a run resumes from is due and missing."""
    due = start > 0 and _due(start, options.sample_every, options.num_steps)
    return _by_the_first(due and not MetricWriter.image_path(workdir, start, "samples").exists())


def _lacks_evaluation(options: TrainingOptions, workdir: Path, start: int) -> bool:
    """Whether the evaluation of the step that a run resumes from is due and missing."""
    file = workdir / "metrics.jsonl"
    if start == 0 or not _due(start, options.eval_every, options.num_steps):
        return False  # on all processes, which are at the same step
    lines = read_metrics(file) if file.exists() else []
    names = {name for line in lines if line["step"] == start for name in line}
    return _by_the_first(not any(name.startswith("eval/") for name in names))


def _by_the_first(answer: bool) -> bool:
    """The answer of process 0, which alone writes what the question is about."""
    if jax.process_count() > 1:
        answer = bool(multihost_utils.broadcast_one_to_all(np.asarray(answer)))
    return answer


def _choose_average(
    writer: MetricWriter, index: int, state: TrainState, monitor: Monitor
) -> tuple[str, Mapping[str, float]]:
    """The width of the average with the lowest loss in the evaluation, and its figures."""
    averages = {"": state.ema, **state.averages}
    figures = {w: monitor.evaluate(on_this_process(average)) for w, average in averages.items()}
    writer.write(index, {f"average/{w or 'ema'}/loss": x["loss"] for w, x in figures.items()})
    # A loss that is not a number is no better than any.
    best = min(figures, key=lambda width: np.nan_to_num(figures[width]["loss"], nan=np.inf))
    return best, figures[best]


def _draw(
    writer: MetricWriter, index: int, averaged: Any, picture: Callable[[Any], np.ndarray]
) -> None:
    averaged = on_this_process(averaged)
    try:
        image = picture(averaged)
    # The caller's function may fail in any way.
    except Exception as error:
        logging.warning("The picture of step %d is left out: %s", index, error)
    else:
        writer.write_image(index, "samples", image)


def _prefixed(prefix: str, values: Mapping[str, float]) -> dict[str, float]:
    return {f"{prefix}/{name}": value for name, value in values.items()}


def _require_progress(options: TrainingOptions, index: int, reports: list[StepReport]) -> None:
    for number, report in enumerate(reports, start=index - len(reports) + 1):
        if report.verdict.skipped:
            logging.warning("A step was left out: %s.", diagnose(number, report))
        if report.verdict.in_row >= options.max_skipped:
            raise FloatingPointError(
                errors.message(
                    "loss",
                    f"{options.max_skipped} steps in a row that were left out, the last with "
                    + diagnose(number, report),
                    "a finite number",
                    "correct the data or lower training.learning_rate, then run again: it goes on "
                    "from the last checkpoint",
                )
            )
