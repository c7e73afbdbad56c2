"""The folder of an experiment, which keeps its config."""

import contextlib
import copy
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from absl import logging
from flax import traverse_util
from ml_collections import ConfigDict

from mmdiffusion_jax import baselines, errors, files
from mmdiffusion_jax.experiment import contents
from mmdiffusion_jax.experiment.contents import data_digests
from mmdiffusion_jax.experiment.sections.choices import complete
from mmdiffusion_jax.experiment.sections.reading import under
from mmdiffusion_jax.experiment.settings import read_settings
from mmdiffusion_jax.sampling import SAMPLERS

_FILE = "config.json"

# Keys in which a run that goes on may differ from the one that it continues, without a word.
_MAY_CHANGE = (
    "training.num_steps",
    "training.log_every",
    "training.eval_every",
    "training.sample_every",
    "training.checkpoint_every",
    "training.keep",
    "training.accumulate",
    "training.max_skipped",
    "training.best_",
    "sharding",
    "sampling",
    "evaluation",
    "data.folder",
    "data.path",
)

# Keys that change what is learned from here on, and leave the saved state what it is.
_MAY_BE_RETUNED = (
    "training.learning_rate",
    "training.warmup_steps",
    "training.weight_decay",
    "training.gradient_clip",
    "training.ema_decay",
    "training.batch_size",
)

_RULE = (
    "a run may go on with another training.num_steps, learning_rate, warmup_steps, weight_decay, "
    "gradient_clip, ema_decay, batch_size and accumulate, with other intervals, checkpoints kept, "
    "sharding, sampling and evaluation, and with its data in another place; anything else is "
    "another experiment"
)


@contextlib.contextmanager
def hold_workdir(
    workdir: str | os.PathLike[str], config: ConfigDict, retuned: bool = False
) -> Iterator[Path]:
    """Makes `workdir` this experiment's, or checks that it is, and keeps other runs out.

    The config is kept in `workdir/config.json`, and in `workdir/data.json` digests of the files
    that its data section names. A run may go on with other intervals, another number of steps, on
    other devices, with other sampling and evaluation, or with the same data in other places;
    anything else, such as other data in the same place, is another experiment. With `retuned` the
    optimiser's numbers and the size of batches may differ too, and the log says so.

    Args:
        workdir: the folder.
        config: the experiment's.
        retuned: whether the run may go on with another learning rate, warm-up, weight decay, clip,
            decay of the average or batch size.

    Yields:
        The folder, which is made where it is missing.

    Raises:
        ValueError: a workdir that holds another experiment or none that can be read, that cannot be
            written to, or that another process is writing to; nothing in it is touched.
    """
    path = files.to_path(workdir, "workdir")
    check_workdir(path, config, retuned)
    _log_changes(path, config)
    with contextlib.ExitStack() as stack:
        try:
            path.mkdir(parents=True, exist_ok=True)
            stack.enter_context(files.locked(path, "workdir"))
            files.write_text(
                path / _FILE, json.dumps(read_settings(config).to_dict(), indent=2) + "\n"
            )
            if digests := data_digests(config):
                files.write_text(path / contents.FILE, json.dumps(digests, indent=2) + "\n")
        except OSError as error:
            raise errors.invalid(
                "workdir",
                f"{path}, which cannot be written to ({error.strerror or error})",
                "a folder on a disk with room, where this user may write",
                "choose another, or mend its permissions",
            ) from error
        yield path


def check_workdir(
    workdir: str | os.PathLike[str], config: ConfigDict, retuned: bool = False
) -> None:
    """Checks that `workdir` is empty, not there, or this experiment's.

    The arguments are those of `hold_workdir`.

    Raises:
        ValueError: it holds another experiment or none that can be read.

    Example:
        >>> from mmdiffusion_jax.experiment import read_config_file
        >>> check_workdir("nowhere", read_config_file("configs/smoke.py"))
    """
    path = files.to_path(workdir, "workdir")
    ours = _flat(config)
    if (path / _FILE).exists():
        theirs = _flat(read_config(path))
        known, digests = contents.read_digests(path), data_digests(config)
        allowed = (*_MAY_CHANGE, *(_MAY_BE_RETUNED if retuned else ()))
        different = [
            key
            for key in _different(theirs, ours)
            if not key.startswith(allowed) and not (key in known and key in digests)
        ]
        if different:
            key = different[0]
            begin = f"choose another workdir, and begin it from this one by config.init_from={path}"
            raise errors.invalid(
                "workdir",
                f"{path}, which holds an experiment that differs in {', '.join(different)} "
                f"({key} is {theirs.get(key)!r} there, {ours.get(key)!r} here)",
                f"an empty folder or the same experiment{f' ({_RULE})' if retuned else ''}",
                begin if retuned else "choose another workdir",
            )
        for key, digest in digests.items():
            if known.get(key, digest) != digest:
                raise errors.invalid(
                    "workdir",
                    f"{path}, which holds an experiment on other contents of {key} (digest "
                    f"{known[key][:12]} there, {digest[:12]} of {ours.get(key)!r})",
                    "the same data, in whatever place",
                    "choose another workdir, or restore the data",
                )
    elif (path / "checkpoints").exists():
        raise errors.invalid(
            "workdir",
            f"{path}, which has checkpoints but no {_FILE}",
            "an empty folder or a whole experiment",
            "choose another workdir",
        )


def read_config(workdir: str | os.PathLike[str]) -> ConfigDict:
    """Reads the config that an experiment was started with; keys it lacks have their defaults.

    Raises:
        ValueError: no experiment there, a damaged `config.json`, or one of another version of the
            package, whose keys or values this one does not know.
    """
    file = files.to_path(workdir, "workdir") / _FILE
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise errors.invalid(
            "workdir", str(workdir), "a folder with a config.json", "train there first"
        ) from error
    except ValueError as error:
        raise errors.invalid(
            "workdir", f"a damaged {file}", "valid JSON", "restore that file"
        ) from error
    with of_this_version("workdir", file):
        return config_of(values)


@contextlib.contextmanager
def of_this_version(argument: str, place: str | os.PathLike[str]) -> Iterator[None]:
    """What a `ValueError` about a stored experiment means: another version has written it.

    Args:
        argument: what the caller calls the experiment.
        place: the file or the folder that is read.

    Raises:
        ValueError: as it came, with what there is to do about it.

    Example:
        >>> with of_this_version("workdir", "W/config.json"):
        ...     config_of({"latent": [8, 8, 1], "trainer": {}})
        Traceback (most recent call last):
        ...
        ValueError: `workdir`: got W/config.json, which this version of the package does not read
        (`config`: got 'trainer', ...), expected what this version writes; use the version that ...
    """
    try:
        yield
    except ValueError as error:
        raise errors.invalid(
            argument,
            f"{place}, which this version of the package does not read ({error})",
            "what this version writes",
            "use the version that wrote it, or train anew; CHANGELOG.md has the names that changed",
        ) from error


def config_of(values: Mapping[str, Any]) -> ConfigDict:
    """A config from the values in a JSON file, also one that an earlier version wrote.

    Args:
        values: nested dictionaries of JSON's types; keys that are left out have their defaults.

    Raises:
        ValueError: values that are no config.

    Example:
        >>> values = {"latent": [8, 8, 1], "modalities": {"image": {"kind": "image"}}}
        >>> config = config_of({**values, "sampling": {"sampler": "ddim", "eta": 0.5}})
        >>> config.latent, config.sampling.sampler.eta
        ((8, 8, 1), 0.5)
    """
    values = dict(copy.deepcopy(values))
    section = dict(values.get("sampling", {}))
    # Earlier versions wrote this field of one sampler beside the samplers.
    if (eta := section.pop("eta", None)) is not None:
        with under("config"):
            sampler = complete("sampling.sampler", section.get("sampler", "ancestral"), SAMPLERS)
        # They wrote a 0 beside samplers that have no such field, too.
        if eta or "eta" in sampler:
            section["sampler"] = {**sampler, "eta": eta}
    values["sampling"] = section
    # Earlier versions had one task, that of all modalities together.
    loss = dict(values.get("loss", {}))
    if values.get("formulation", "shared") == "shared" and loss.get("kind", "simple") == "simple":
        loss.setdefault("tasks", {", ".join(sorted(values.get("modalities", {}))): 1.0})
    values["loss"] = loss
    # Earlier versions took and kept what separate diffusions ignore.
    if values.get("formulation") == "separate":
        baselines.leave_unused_out(values)
    return ConfigDict(read_settings(values).to_dict())


def _log_changes(path: Path, config: ConfigDict) -> None:
    """Says in one line what a run goes on with that it did not begin with."""
    if not (path / _FILE).exists():
        return
    theirs, ours = _flat(read_config(path)), _flat(config)
    changes = [
        f"{key} {ours.get(key)} ({theirs.get(key)} before)"
        for key in _different(theirs, ours)
        if key.startswith(("training.num_steps", *_MAY_BE_RETUNED))
    ]
    if changes:
        logging.warning("The run goes on with %s; %s.", ", ".join(changes), _RULE)


def _different(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    return [key for key in sorted({*theirs, *ours}) if theirs.get(key) != ours.get(key)]


def _flat(config: ConfigDict) -> dict[str, Any]:
    """{path of a key: value} of a config, as it comes back from a file."""
    values = json.loads(json.dumps(read_settings(config).to_dict()))
    return traverse_util.flatten_dict(values, sep=".")
