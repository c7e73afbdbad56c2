"""Trains an experiment, and loads a trained one with its data."""

import contextlib
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from absl import logging
from flax import traverse_util
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from mmdiffusion_jax import data, errors, evaluation, experiment, files, ranges, report, training
from mmdiffusion_jax.apps.options import CHECKPOINTS

UPDATE_FILE = "update.json"
"""In the workdir of a successor: the options of the update and digests of the deployed models."""


def train(
    config: ConfigDict, workdir: str, profile: tuple[int, int] | None = None, retuned: bool = True
) -> training.TrainState:
    """Trains an experiment, or goes on with the one in `workdir`, and keeps its `report.html`.

    Args:
        config: the experiment's.
        workdir: its folder.
        profile: (first, last) step to record for XProf into `workdir/profile`, or None.
        retuned: whether a run may go on with another learning rate or batch size, and what else
            `experiment.hold_workdir` says.

    Returns:
        The state after the last step taken.

    Raises:
        ValueError: a bad config, bad data, a profile of steps that are not taken, a workdir that
            cannot be written to, that holds another experiment or that another run is writing to,
            or a `config.init_from` that does not serve.
    """
    config = experiment.local_paths(config)
    workdir = str(files.to_path(workdir, "workdir"))
    built = experiment.build(config)
    if profile is not None and profile[0] > built.training.num_steps:
        raise errors.invalid(
            "profile",
            f"step {profile[0]} first",
            f"steps in 1 … {built.training.num_steps}, which are taken",
            "record earlier ones",
        )
    experiment.share_batch(built)
    experiment.check_workdir(workdir, config, retuned)
    if (files.to_path(workdir) / UPDATE_FILE).exists():
        raise errors.invalid(
            "workdir",
            f"{workdir}, which holds an update of a deployed model",
            "an empty folder or an ordinary run",
            "go on with launch/update.py",
        )
    require_writable(workdir)
    pretrained = experiment.open_pretrained(built, workdir)  # refused before anything is written
    splits = open_splits(config)
    source = splits.train
    config = experiment.draw_scarce_last(config, built, source)
    built = experiment.build(config)
    monitor = evaluation.monitor(built, splits.validation, profile)
    with hold(workdir, config, retuned) as folder, report.live(folder) as written:
        monitor = dataclasses.replace(monitor, written=written)
        return experiment.fit(built, source, folder, monitor, pretrained=pretrained)


def train_to_the_end(config: ConfigDict, workdir: str) -> None:
    """Trains as `train` does, for programs that go on with what was trained, and count on how.

    Raises:
        ValueError: as `train`.
        KeyboardInterrupt: a signal stopped the run; it has a checkpoint.
    """
    taken, num_steps = int(train(config, workdir, retuned=False).step), config.training.num_steps
    if taken < num_steps:
        raise KeyboardInterrupt(f"{workdir} is at step {taken} of {num_steps}; run again to go on")


def open_splits(config: ConfigDict) -> experiment.Splits:
    """Opens the data to train on: process 0 first, which may have to prepare them, then the others.

    It warns of a checkpoint or an average that the test split would choose.
    """
    if jax.process_index() > 0:
        multihost_utils.sync_global_devices("data are prepared")
        return experiment.open_splits(config)
    splits = experiment.open_splits(config)
    multihost_utils.sync_global_devices("data are prepared")
    options = config.training
    choices = [name for name in ("best_metric", "ema_widths") if options[name]]
    if choices and not config.data.held_out:
        logging.warning(
            "The test split chooses for training.%s, so its figures will be a little too good: "
            "config.data.held_out=0.05 holds training examples out for that.",
            " and training.".join(choices),
        )
    return splits


def open_moved_data(
    workdir: str, config: ConfigDict, places: Mapping[str, str] | None = None, whole: bool = True
) -> tuple[data.Source, data.Source]:
    """Opens the data of a workdir where they lie now.

    Args:
        workdir: the experiment's folder.
        config: from `load`.
        places: {key of `config.data`: where the data are now}, if they have moved.
        whole: with what `data.kept` hides from training.

    Raises:
        ValueError: other contents than the experiment was trained on, or data that cannot be read.
    """
    if not places:
        return experiment.open_data(config, whole)
    moved = config.copy_and_resolve_references()
    moved.data.update(places)
    moved = experiment.local_paths(moved)
    experiment.check_workdir(files.to_path(workdir, "workdir"), moved)
    return experiment.open_data(moved, whole)


def require_writable(workdir: str) -> None:
    """Checks that process 0 can write to a workdir, before data are prepared and models compiled.

    Raises:
        ValueError: it cannot.
    """
    if jax.process_index() == 0:
        files.writable_folder(workdir, "workdir")


def hold(
    workdir: str, config: ConfigDict, retuned: bool = False
) -> contextlib.AbstractContextManager[Path]:
    """The workdir, locked by process 0 for its whole run."""
    if jax.process_index() > 0:
        return contextlib.nullcontext(files.to_path(workdir))
    return experiment.hold_workdir(workdir, config, retuned)


def with_sampling(config: ConfigDict, sampling: Mapping[str, Any]) -> ConfigDict:
    """A config with other values of some sampling options.

    Raises:
        ValueError: bad options.
    """
    values = config.to_dict()
    values["sampling"] |= sampling
    return experiment.config_of(values)


def load(
    workdir: str, sampling: Mapping[str, Any] | None = None, checkpoint: str = "newest"
) -> tuple[ConfigDict, experiment.Experiment, Any]:
    """The config, the experiment and the averaged parameters of a checkpoint.

    Args:
        workdir: the experiment's folder.
        sampling: {option: value} in place of the experiment's.
        checkpoint: "newest", or "best" of a run with `training.best_metric`.

    Raises:
        ValueError: bad options, no experiment or no usable checkpoint in `workdir`.
    """
    ranges.check_one_of("checkpoint", checkpoint, CHECKPOINTS)
    workdir = str(files.to_path(workdir, "workdir"))
    config = with_sampling(experiment.local_paths(experiment.read_config(workdir)), sampling or {})
    built = experiment.build(config)
    folder = files.to_path(workdir) / ("checkpoints" if checkpoint == "newest" else checkpoint)
    with training.Checkpoints(folder, read_only=True) as checkpoints:
        # A device need not have room for the rest of the state.
        restored = checkpoints.restore_part(training.TrainState.averaged_path)
    if restored is None:
        mend = "train there first"
        if checkpoint == "best":
            mend = "train with config.training.best_metric"
        raise errors.invalid("workdir", workdir, f"a checkpoint in {folder.name!r} in it", mend)
    params = traverse_util.unflatten_dict(restored.state, sep="/")
    with experiment.of_this_version("workdir", folder):
        built.check_params("parameters", params)
    logging.info("Parameters of step %d.", restored.step)
    return config, built, jax.device_put(params, jax.local_devices()[0])
