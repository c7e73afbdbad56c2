"""Training, and what reads a trained experiment."""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from mmdiffusion_jax import data, errors, evaluation, experiment, generation, training
from mmdiffusion_jax.run.options import CHECKPOINTS

_SHEET = 100


def train(
    config: ConfigDict, workdir: str, profile: tuple[int, int] | None = None
) -> training.TrainState:
    """Trains an experiment, or goes on with the one in `workdir`.

    Args:
        config: the experiment.
        workdir: where it is kept.
        profile: (first, last) step to record into `workdir/profile`, or None.

    Returns:
        The state after the last step taken.

    Raises:
        ValueError: a bad config, bad data, or a workdir that holds another experiment or that
            another run is writing to.
    """
    built = experiment.build(config)
    mesh = training.make_mesh(built.sharding)
    size = built.training.batch_size
    split = training.batch_sharding(mesh, size)
    rows = training.local_rows(split, size)
    experiment.check_workdir(workdir, config)
    source, test = _open_data(config)
    with _hold(workdir, config) as folder:
        step, state = make_step_and_state(built, mesh)
        count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
        logging.info(
            "%d parameters, %d training examples, %d devices.", count, len(source), mesh.size
        )

        def open_batches(start_example: int) -> Any:
            batches = data.train_batches(
                source, batch_size=size, seed=built.seed, start_example=start_example, rows=rows
            )
            return data.to_device(batches, split, size, rows)

        def picture(params: Any) -> np.ndarray:
            # A network that only predicts is shown what it makes of test examples.
            count = min(_SHEET, len(test))
            shown = config.predict.given if built.formulation == "predict" else ()
            given = {name: x for name, x in test.take(np.arange(count)).items() if name in shown}
            made = built.generate(jax.random.key(built.seed), params, count, given)
            return generation.contact_sheet(built.model, made)

        return training.train(
            built.training,
            folder,
            state,
            step,
            open_batches,
            evaluation.loss_on(built, test),
            picture,
            profile,
        )


def _open_data(config: ConfigDict) -> tuple[data.Source, data.Source]:
    """Opens the data; process 0 first, as it may have to prepare them."""
    if jax.process_index() > 0:
        multihost_utils.sync_global_devices("data are prepared")
        return experiment.open_data(config)
    opened = experiment.open_data(config)
    multihost_utils.sync_global_devices("data are prepared")
    return opened


def _hold(workdir: str, config: ConfigDict) -> contextlib.AbstractContextManager[Path]:
    """The workdir, held by process 0 for all of its run."""
    if jax.process_index() > 0:
        return contextlib.nullcontext(Path(workdir))
    return experiment.hold_workdir(workdir, config)


def make_step_and_state(
    built: experiment.Experiment, mesh: jax.sharding.Mesh
) -> tuple[training.step.Step, training.TrainState]:
    """The compiled train step of an experiment and its fresh state.

    Args:
        built: the experiment.
        mesh: from `training.make_mesh`.
    """
    options = built.training
    optimiser = training.make_optimiser(
        options.learning_rate,
        options.warmup_steps,
        options.num_steps,
        options.weight_decay,
        options.gradient_clip,
    )
    key = jax.random.key(built.seed)
    state = training.create_state(key, built.init, optimiser, mesh, built.sharding)
    step = training.make_step(
        built.loss,
        optimiser,
        options.ema_decay,
        training.state_sharding(mesh, state, built.sharding),
        training.batch_sharding(mesh, options.batch_size),
        options.accumulate,
    )
    return step, state


def load(
    workdir: str, sampling: Mapping[str, Any] | None = None, checkpoint: str = "newest"
) -> tuple[ConfigDict, experiment.Experiment, Any]:
    """The config, the experiment and the averaged parameters of a checkpoint.

    Args:
        workdir: where the experiment is kept.
        sampling: options of sampling in place of the experiment's own.
        checkpoint: "newest", or "best" of a run with `training.best_metric`.

    Raises:
        ValueError: bad options, no experiment or no usable checkpoint in `workdir`.
    """
    if checkpoint not in CHECKPOINTS:
        raise ValueError(errors.unknown("checkpoint", checkpoint, CHECKPOINTS))
    values = experiment.read_config(workdir).to_dict()
    config = ConfigDict({**values, "sampling": {**values["sampling"], **(sampling or {})}})
    built = experiment.build(config)
    mesh = training.make_mesh(devices=jax.local_devices()[:1])
    _, template = make_step_and_state(built, mesh)
    folder = Path(workdir) / ("checkpoints" if checkpoint == "newest" else checkpoint)
    with training.Checkpoints(folder, read_only=True) as checkpoints:
        restored = checkpoints.restore(template)
    if restored is None:
        mend = "train there first"
        if checkpoint == "best":
            mend = "train with config.training.best_metric"
        raise ValueError(
            errors.message("workdir", workdir, f"a checkpoint in {folder.name!r} in it", mend)
        )
    logging.info("Parameters of step %d.", restored.step)
    return config, built, restored.state.ema
