"""Compares multi-task with single-task training: same backbone, budget and judges."""

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from ml_collections import ConfigDict

from mmdiffusion_jax import (
    baselines,
    data,
    errors,
    evaluation,
    experiment,
    files,
    metrics,
    ranges,
    report,
)
from mmdiffusion_jax.apps.costs import kept_costs
from mmdiffusion_jax.apps.judging import RULES, Judging, judged_data, kept_judging
from mmdiffusion_jax.apps.train import load, train_to_the_end
from mmdiffusion_jax.baselines import ArmRun, Cost
from mmdiffusion_jax.evaluation import HIGHER_IS_BETTER, RealData
from mmdiffusion_jax.networks import MultiModalModel

# Numbers of steps that differ by a smaller share are trained once.
_SAME = 0.02
# Samples that a picture shows.
_SHEET = 40

Splits = tuple[data.Source, data.Source]


def compare_arms(
    config: ConfigDict,
    workdir: str,
    arms: Sequence[str],
    num_seeds: int,
    steps: int | None = None,
    budgets: Sequence[str] = ("steps", "flops"),
    variants: Mapping[str, Mapping[str, Any]] | None = None,
) -> str:
    """Trains every arm with every seed, evaluates all runs alike, and prints a table.

    The first arm is the reference. Under the budget "steps" each run of an arm has as many steps
    as the reference; under "flops" and "time" the runs of an arm together have as many operations,
    or take as long by the time of a step that the first call measured. Judges and features are
    fitted once, on training data, and serve all arms; what they make of shams stands above the
    table, and below it how a support vector machine reads the labels. Likelihoods are left out, as
    those of arms with other modalities are of other dimensions. The same call again goes on where
    it stopped. It writes `comparison.json`, `comparison.md`, `comparison.png`, `costs.json`,
    `judging.json` and `features.safetensors` (the network of the judges; `features.json` says what
    it was fitted to) and a page of all, `report.html`, into `workdir`, and a folder for each run
    with its checkpoints, figures and sheets of samples.

    Args:
        config: of the multi-task model.
        workdir: the folder of all runs.
        arms: names of `baselines.ARMS` or of variants.
        num_seeds: runs an arm; seeds count up from the config's.
        steps: of training, in place of the config's.
        budgets: names of `baselines.BUDGETS`.
        variants: {arm: {path in the config: value}}, arms of one run each that differ from the
            config by these values.

    Returns:
        The table.

    Raises:
        ValueError: unknown names, none or one twice, fewer than one seed, a bad config, bad data,
            or a workdir with runs of another config or on other data.
        KeyboardInterrupt: a signal stopped a run; it has a checkpoint, and no figures yet.
    """
    if num_seeds < 1:
        raise errors.invalid("seeds", num_seeds, "1 or more", "raise it")
    variants = variants or {}
    for argument, names, known in (
        ("budgets", budgets, baselines.BUDGETS),
        ("arms", arms, {*baselines.ARMS, *variants}),
    ):
        ranges.check_each_once(argument, names)
        for name in names:
            ranges.check_one_of(argument, name, known)
    config = experiment.local_paths(config)
    folder = files.writable_folder(workdir, "workdir")
    if steps is not None:
        config.training.num_steps = steps
    settings = experiment.check_config(config)
    # A modality may be written as its name and fields in one string.
    config.modalities = ConfigDict(settings.to_dict()["modalities"])
    plans = {
        arm: {"joint": baselines.make_variant(config, arm, variants[arm])}
        if arm in variants
        else baselines.make_arm(config, arm)
        for arm in arms
    }
    splits = experiment.open_data(config, whole=True)
    real = real_data(config, splits, folder / "features.safetensors")
    batch = splits[0].take(np.arange(settings.training.batch_size) % len(splits[0]))
    flat = {f"{arm}/{part}": c for arm, parts in plans.items() for part, c in parts.items()}
    measured = kept_costs(flat, batch, folder / "costs.json")
    costs = {a: {part: measured[f"{a}/{part}"] for part in parts} for a, parts in plans.items()}
    whole = settings.training.num_steps
    counts = {each: baselines.equal_steps(costs, arms[0], whole, each) for each in budgets}
    runs: list[ArmRun] = []
    judging = kept_judging(config, splits, real, folder / "judging.json")
    write = functools.partial(_write, folder, runs, costs, judging)
    table = ""
    for seed in range(settings.seed, settings.seed + num_seeds):
        for budget in budgets:
            for arm, parts in plans.items():
                num_steps = counts[budget][arm]
                if abs(num_steps / whole - 1) < _SAME:
                    num_steps = whole
                figures: dict[str, float] = {}
                counts_of: dict[str, int] = {}
                is_new = False
                for part, part_config in parts.items():
                    place = folder / f"{arm}-{part}-{num_steps}-seed{seed}"
                    record, trained = _run(part_config, str(place), num_steps, seed, real, splits)
                    is_new |= trained
                    figures |= record["figures"]
                    counts_of |= record.get("num_examples", {})
                steps_of = dict.fromkeys(parts, num_steps)
                runs.append(ArmRun(budget, arm, seed, steps_of, figures, counts_of))
                # What earlier calls trained is drawn and written with the rest.
                table = write() if is_new else ""
    table = table or write()
    print(table)
    return table


def real_data(config: ConfigDict, splits: Splits, kept: Path) -> RealData:
    """The real data, with the feature network of an earlier call, if there is one.

    Raises:
        ValueError: an earlier call fitted them to other data.
    """
    config = config.copy_and_resolve_references()
    settings = experiment.read_settings(config)
    # Judges have whole data, whatever training keeps of them and repeats.
    of_training = ("kept", "portions", "mirrored")
    record = {n: x for n, x in judged_data(config).items() if n not in of_training}
    origin = kept.with_suffix(".json")
    if settings.evaluation.features == evaluation.CLASSIFIER and kept.exists():
        # Records of earlier versions have the names of files in place of their digests.
        values = dataclasses.asdict(settings.data)
        names = _plain(record | {n: x for n, x in values.items() if n in record})
        # A network that was put there by hand has no record.
        theirs = json.loads(origin.read_text(encoding="utf-8")) if origin.exists() else names
        different = [
            key
            for key, value in _plain(record).items()
            if theirs.get(key, value) not in (value, names.get(key, value))
        ]
        if different:
            raise errors.invalid(
                "workdir",
                f"{kept.parent}, whose features were fitted with another {different[0]}, "
                f"{theirs.get(different[0])!r}",
                f"features fitted with {record[different[0]]!r}, or none",
                "choose another workdir",
            )
        config.evaluation.features = str(kept)
    real = RealData(experiment.build(config), *splits)
    real.check()
    network = real.network
    kept.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(network, metrics.SmallClassifier) and not kept.exists():
        files.write_text(origin, json.dumps(record, indent=1))
        network.save(kept)
    return real


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values as they come back from a file."""
    return json.loads(json.dumps(values))


def _run(
    config: ConfigDict, workdir: str, num_steps: int, seed: int, real: RealData, splits: Splits
) -> tuple[dict[str, Any], bool]:
    """Trains and evaluates one run, or reads the figures of an earlier call; whether it is new."""
    config = config.copy_and_resolve_references()
    config.seed, config.training.num_steps = seed, num_steps
    # The evaluation comes after training, by the judges of all runs.
    config.training.eval_every = config.training.sample_every = 0
    # Features have their name in the key, not the file that they may have come from.
    settings = experiment.read_settings(config)
    key = {
        "rules": RULES,
        "evaluation": dataclasses.asdict(settings.evaluation) | {"features": real.features_name},
        "sampling": dataclasses.asdict(settings.sampling),
    }
    file = files.to_path(workdir) / "figures.json"
    if file.exists():
        record = json.loads(file.read_text(encoding="utf-8"))
        if record["key"] == _plain(key):
            experiment.check_workdir(workdir, config)
            return record, False
    logging.info("%s: %d steps.", workdir, num_steps)
    train_to_the_end(config, workdir)
    _, built, params = load(workdir)

    def draw(title: str, samples: Mapping[str, np.ndarray]) -> None:
        _draw(built.model, samples, files.to_path(workdir) / f"{title}.png")

    figures = list(evaluation.evaluate(built, params, *splits, real, draw, likelihoods=False))
    for figure in figures:
        if figure.value is None:
            logging.info("%s: %s is left out: %s.", workdir, figure.name, figure.reason)
    record = {
        "key": key,
        "figures": evaluation.values_of(figures),
        "num_examples": evaluation.counts_of(figures),
    }
    files.write_text(file, json.dumps(record, indent=1))
    return record, True


def _draw(model: MultiModalModel, samples: Mapping[str, np.ndarray], file: Path) -> None:
    """Draws the first samples; figures are not lost to a picture that cannot be drawn."""
    try:
        sheet = evaluation.contact_sheet(model, {name: x[:_SHEET] for name, x in samples.items()})
    except Exception as error:
        logging.warning("The picture %s is left out: %s", file, error)
    else:
        files.write_png(file, sheet)


def _write(
    folder: Path, runs: Sequence[ArmRun], costs: Mapping[str, Mapping[str, Cost]], judging: Judging
) -> str:
    arms, shams = list(costs), judging.shams
    table = baselines.arms_table(runs, costs, arms[0], HIGHER_IS_BETTER)
    table = f"{shams.report()}\n\n{table}\n\nFeatures and judges: {shams.features}.".strip()
    judged = {n: x for n, x in shams.figures.items() if n.startswith("judge/")}
    table += "".join(f" {name} {value:.3f}." for name, value in judged.items())
    table += "".join(f"\n\n{accuracy}" for accuracy in judging.outsiders)
    results = {
        "features": shams.features,
        "frechet_floor": judging.floor,
        "labels_by_svm": [dataclasses.asdict(accuracy) for accuracy in judging.outsiders],
        "costs": {a: {p: dataclasses.asdict(c) for p, c in ps.items()} for a, ps in costs.items()},
        "runs": [dataclasses.asdict(run) for run in runs],
    }
    files.write_text(folder / "comparison.json", json.dumps(results, indent=1))
    files.write_text(folder / "comparison.md", table + "\n")
    baselines.plot_arms(runs, arms, HIGHER_IS_BETTER, folder / "comparison.png")
    report.try_to_write(folder)
    return table
