"""Replaces a deployed model: trains its successor, and compares both before it is used."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from absl import logging
from ml_collections import ConfigDict

from mmdiffusion_jax import errors, evaluation, experiment, files, graceful, report, training
from mmdiffusion_jax.apps.train import (
    UPDATE_FILE,
    hold,
    load,
    open_moved_data,
    open_splits,
    require_writable,
)
from mmdiffusion_jax.experiment.contents import read_digests


def update(
    config: ConfigDict,
    workdir: str,
    deployed: Sequence[str],
    ensemble: Sequence[str] = (),
    profile: tuple[int, int] | None = None,
) -> training.TrainState:
    """Trains the successor of what is deployed, or goes on with it.

    The successor's workdir is sampled from, evaluated and exported as any other; it also keeps
    `update.json` and the deployed models as `deployed-0.safetensors`, ….

    Args:
        config: an experiment with a section `graceful`, the fields of `graceful.UpdateOptions`.
        workdir: of the successor.
        deployed: workdirs of the models in use, the oldest first.
        ensemble: workdirs of models whose mean logits are distilled in place of those of the last
            deployed model.
        profile: (first, last) step to record for XProf, or None.

    Returns:
        The state after the last step taken.

    Raises:
        ValueError: a bad config, a workdir without a trained experiment, a successor that cannot
            take the place of what is deployed, or a workdir that holds something else.
    """
    config, options = split_config(experiment.local_paths(config))
    workdir = str(files.to_path(workdir, "workdir"))
    deployed = [str(files.to_path(path, "from")) for path in deployed]
    ensemble = [str(files.to_path(path, "ensemble")) for path in ensemble]
    built = experiment.build(config)
    if built.settings.init_from:
        raise errors.invalid(
            "config.init_from",
            built.settings.init_from,
            "nothing in an update, whose parameters come from what is deployed",
            "leave it out, and set graceful.warm_start to begin with all that fits",
        )
    for path in (*deployed, *ensemble):
        if files.same_place(path, workdir):
            raise errors.invalid(
                "workdir", workdir, "another folder than the deployed model's", "name a new one"
            )
    require_writable(workdir)
    bundles = [freeze(path) for path in deployed]
    members = [freeze(path) for path in ensemble]
    graceful.constraint(bundles, built, options, members)  # refused before anything is written
    experiment.share_batch(built)
    experiment.check_workdir(workdir, config)
    record = _record(options, bundles, members)
    _check_record(workdir, record)
    splits = open_splits(config)
    config = experiment.draw_scarce_last(config, built, splits.train)
    built = experiment.build(config)
    monitor = evaluation.monitor(built, splits.validation, profile)
    with hold(workdir, config) as folder, report.live(folder) as written:
        monitor = dataclasses.replace(monitor, written=written)
        if jax.process_index() == 0:
            for index, bundle in enumerate(bundles):
                graceful.write_bundle(folder / f"deployed-{index}.safetensors", bundle)
            files.write_text(folder / UPDATE_FILE, json.dumps(record, indent=2) + "\n")
        return graceful.update(bundles, built, splits.train, folder, monitor, options, members)


def freeze(workdir: str, checkpoint: str = "newest") -> graceful.Bundle:
    """The bundle of a trained experiment; a successor's names the encoders it is compatible with.

    No training makes an encoder without parameters compatible with another: it is so if equal.

    Raises:
        ValueError: no trained experiment in `workdir`, or a damaged `update.json`.
    """
    workdir = str(files.to_path(workdir, "workdir"))
    _, built, params = load(workdir, checkpoint=checkpoint)
    record = _read_record(workdir) or {"compatible_with": {}}
    compatible = {
        name: prints
        for name, prints in record["compatible_with"].items()
        if experiment.encoder_paths(built, name)
    }
    bundle = graceful.freeze(built, params, compatible_with=compatible)
    # The weights that made the embeddings of training may be elsewhere by now, or replaced.
    kept = read_digests(files.to_path(workdir)).get("data.embedder")
    embeds = any(kind.is_embedding for kind in built.model.modalities.values())
    return dataclasses.replace(bundle, embedder=kept) if kept and embeds else bundle


def compare_update(
    workdir: str,
    deployed: str | None = None,
    out: str | None = None,
    limits: graceful.Limits | None = None,
    num_examples: int = 1000,
    places: Mapping[str, str] | None = None,
) -> graceful.Report:
    """Compares a successor with what it replaces on the test split, and prints the report.

    It writes `report.json` and `report.png` into the successor's workdir.

    Args:
        workdir: of the successor.
        deployed: workdir of the model in use; left out, the copy in the successor's workdir of the
            last model that it was trained against.
        out: folder of the report, in place of the successor's workdir.
        limits: beyond which the update is refused; left out, the defaults.
        num_examples: of the test split, the first ones.
        places: {key of `config.data`: where the data are now}, if they have moved.

    Raises:
        ValueError: no trained experiment, no deployed model, one that the successor cannot
            replace, or a folder that cannot be written to.
        graceful.UpdateRefused: an update beyond the limits, after the report is written.
    """
    workdir = str(files.to_path(workdir, "workdir"))
    folder = files.writable_folder(out or workdir, "out" if out else "workdir")
    successor = freeze(workdir)
    record = _read_record(workdir)
    if deployed is not None:
        bundle = freeze(deployed)
    elif record is not None:
        name = f"deployed-{record['num_deployed'] - 1}.safetensors"
        bundle = graceful.read_bundle(files.to_path(workdir) / name)
    else:
        raise errors.invalid(
            "from", "nothing", "the workdir of what is deployed", "this is no trained update"
        )
    _, test = open_moved_data(workdir, ConfigDict(successor.built.settings.to_dict()), places)
    seed = successor.built.evaluation.seed
    options = None if record is None else graceful.UpdateOptions(**record["options"])
    report = graceful.compare(bundle, successor, test, num_examples, seed=seed, options=options)
    folder.mkdir(parents=True, exist_ok=True)
    files.write_text(folder / "report.json", json.dumps(report.to_dict(), indent=2) + "\n")
    graceful.plot_report(report, folder / "report.png")
    print(report.table(), flush=True)
    logging.info("Report in %s.", folder)
    report.require(limits)
    return report


def split_config(config: ConfigDict) -> tuple[ConfigDict, graceful.UpdateOptions]:
    """Splits the config of an update into the experiment's config and the section `graceful`.

    Raises:
        ValueError: no such section, or an unknown key or a bad value in it.
    """
    values = config.to_dict()
    section = values.pop("graceful", None)
    if not isinstance(section, Mapping):
        raise errors.invalid(
            "config.graceful",
            "nothing",
            "the fields of graceful.UpdateOptions",
            "start from configs/graceful_update.py",
        )
    options = experiment.read_section(graceful.UpdateOptions, section, "config.graceful")
    return ConfigDict(values), options


def _record(
    options: graceful.UpdateOptions,
    bundles: Sequence[graceful.Bundle],
    members: Sequence[graceful.Bundle],
) -> dict[str, Any]:
    compatible: dict[str, list[str]] = {}
    if options.encoders == "compatible" and (options.heads or options.denoiser or options.latents):
        for bundle in bundles:
            for name, encoder in bundle.encoders.items():
                compatible.setdefault(name, []).append(encoder.fingerprint)
    elif options.encoders == "kept":  # bit for bit those of the newest, which go with what they did
        compatible = {n: list(x.compatible_with) for n, x in bundles[-1].encoders.items()}
    return {
        "options": dataclasses.asdict(options),
        "num_deployed": len(bundles),
        "compatible_with": compatible,
        "deployed": [training.tree_digest(x.params) for x in bundles],
        "ensemble": [training.tree_digest(x.params) for x in members],
    }


def _read_record(workdir: str) -> dict[str, Any] | None:
    file = files.to_path(workdir) / UPDATE_FILE
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise errors.invalid(
            "workdir", f"a damaged {file}", "valid JSON", "restore that file"
        ) from error


def _check_record(workdir: str, record: Mapping[str, Any]) -> None:
    """Checks that a workdir holds neither another update nor an ordinary run."""
    theirs = _read_record(workdir)
    if theirs is None:
        if (files.to_path(workdir) / "checkpoints").exists():
            raise errors.invalid(
                "workdir",
                f"{workdir}, which holds a run that is no update",
                "an empty folder or this update",
                "choose another workdir",
            )
        return
    different = [key for key in record if record[key] != theirs.get(key)]
    if different:
        raise errors.invalid(
            "workdir",
            f"{workdir}, which holds an update that differs in {', '.join(different)}",
            "an empty folder or this update of the same deployed parameters",
            "choose another workdir",
        )
