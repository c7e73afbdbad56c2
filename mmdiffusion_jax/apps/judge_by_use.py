"""Judges generated pairs by their use: predictors are trained on them, and tested on real ones."""

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from mmdiffusion_jax import baselines, data, errors, evaluation, experiment, files, ranges, sampling
from mmdiffusion_jax.apps.requests import Request
from mmdiffusion_jax.apps.sample import sample
from mmdiffusion_jax.apps.shards import open_shards
from mmdiffusion_jax.apps.train import load, open_moved_data, train_to_the_end
from mmdiffusion_jax.baselines import ArmRun
from mmdiffusion_jax.evaluation import HIGHER_IS_BETTER, RealData

_FOLDER = "judged_by_use"

Columns = Mapping[str, np.ndarray]


def judge_by_use(
    workdir: str,
    target: str | None = None,
    num_pairs: int | None = None,
    steps: int | None = None,
    num_seeds: int = 3,
    out: str | None = None,
    places: Mapping[str, str] | None = None,
    **options: Any,
) -> str:
    """Says what generated pairs of an image and its label or mask are worth as training data.

    A predictor of the target from the image is trained on pairs that a joint model generated, and
    on nothing else; another one on as many real pairs, drawn from those that the model was trained
    on; and a third on both together. All have the model's backbone and head and take as many steps,
    and all are tested on the real test split. Of labels this is the classification accuracy score
    (Ravuri & Vinyals 2019, "Classification Accuracy Score for Conditional Generative Models"). Each
    seed draws its own pairs, generated and real ones, and trains its own predictors.

    The same call again goes on where it stopped. The folder gets `judged_by_use.md` with the table,
    `judged_by_use.json` with the figures of all seeds, the pairs, and a folder for each predictor.

    Args:
        workdir: a trained joint model, whose primary is an image.
        target: the modality that is predicted; left out, the only one that can be.
        num_pairs: how many are generated; left out, as many as there are real ones. Of real pairs
            as many are used, or all where there are fewer.
        steps: of training each predictor; left out, `training.num_steps` of the model's config.
        num_seeds: how often all is done, with the seeds 0, 1, …
        out: the folder for the results, on a disk; left out, `judged_by_use` in the workdir.
        places: {key of `config.data`: where the data are now}, if they have moved.
        **options: fields of `SamplingOptions`, in place of the experiment's own.

    Returns:
        The table, which is also printed.

    Raises:
        ValueError: bad options, a workdir without a trained joint model or whose model has nothing
            that can be predicted from an image and held against the truth, no real pairs, or a
            folder that cannot be written to or has other pairs in it.
        KeyboardInterrupt: a signal stopped a run; it has a checkpoint.
    """
    for name, value in (("seeds", num_seeds), ("num_pairs", num_pairs), ("steps", steps)):
        if value is not None:
            ranges.check_whole(name, value, 1)
    workdir = str(files.to_path(workdir, "workdir"))
    # Predictors are trained from files, which are mapped.
    place = files.local_path(out or os.path.join(workdir, _FOLDER), "out")
    folder = files.writable_folder(place, "out")
    config, built, _ = load(workdir, options)
    target = _target_of(workdir, built, target)
    names = (built.model.primary, target)
    real = RealData(built, *open_moved_data(workdir, config, places, whole=False))
    pairs, test = _pairs(real.train_of(*names), names), _pairs(real.test_of(*names), names)
    for split, columns in (("training", pairs), ("test", test)):
        if not len(columns[target]):
            raise errors.invalid(
                f"{split} data", "no example", f"some with both of {names}", "bring more data"
            )
    part = baselines.make_predictor(config, target)
    part.training.num_steps = steps or config.training.num_steps
    count = num_pairs or len(pairs[target])
    folder.mkdir(parents=True, exist_ok=True)
    part.data.test = str(folder / f"test-{target}.npz")
    data.write_npz(part.data.test, test)
    runs: list[ArmRun] = []
    table = ""
    for seed in range(num_seeds):
        shards = folder / f"pairs-{count}-seed{seed}"
        sample(workdir, str(shards), Request(count, seed=seed), **options)
        rows = np.random.default_rng(seed).permutation(len(pairs[target]))[:count]
        drawn = {name: x[rows] for name, x in pairs.items()}
        generated = _read(shards, drawn)
        both = {name: np.concatenate([x, generated[name]]) for name, x in drawn.items()}
        for arm, columns in (("generated", generated), ("real", drawn), ("both", both)):
            place = folder / f"{target}-{arm}-{count}-{part.training.num_steps}-seed{seed}"
            figures = _run(part, place, seed, columns, real)
            title = f"{arm} ({len(columns[target])})"
            steps_of = {"predict": part.training.num_steps}
            runs.append(ArmRun("steps", title, seed, steps_of, figures))
        table = _write(folder, runs, f"real ({len(rows)})", names, len(test[target]))
    print(table)
    return table


def _target_of(workdir: str, built: experiment.Experiment, target: str | None) -> str:
    """The modality to predict, of a model that generates it together with an image."""
    model = built.model
    if built.formulation.predicts_from:
        raise errors.invalid(
            "workdir",
            f"{workdir}, whose model predicts and generates no pairs",
            "a joint model",
            "train one of the formulation 'shared' or 'separate'",
        )
    primary = model.modalities[model.primary]
    others = {name: kind for name, kind in model.modalities.items() if name != model.primary}
    choices = sorted(name for name, kind in others.items() if kind.measures(primary))
    if not choices:
        raise errors.invalid(
            "workdir",
            f"{workdir}, whose model has {sorted(others)} beside {model.primary!r}",
            "a modality that can be predicted and held against the truth, as a label or a mask",
            "judge its samples by launch/evaluate.py",
        )
    if target is None and len(choices) > 1:
        raise errors.invalid("target", "nothing", f"one of {choices}", "name it")
    target = target or choices[0]
    ranges.check_one_of("target", target, choices)
    order = sampling.parse_order(built.sampling.order)
    left_out = {model.primary, target} - {name for stage in order for name in stage}
    if order and left_out:
        raise errors.invalid(
            "order", built.sampling.order, f"stages with {sorted(left_out)} too", "add a stage"
        )
    return target


def _pairs(values: tuple[np.ndarray, ...], names: tuple[str, ...]) -> dict[str, np.ndarray]:
    return dict(zip(names, values, strict=True))


def _read(folder: Path, like: Columns) -> dict[str, np.ndarray]:
    """The generated values of some columns, in these columns' own types."""
    sources = [data.open_npz(file) for file in open_shards(folder)]
    parts = [source.take(np.arange(len(source))) for source in sources]
    return {
        name: np.concatenate([part[name] for part in parts]).astype(x.dtype)
        for name, x in like.items()
    }


def _run(
    config: ConfigDict, place: Path, seed: int, columns: Columns, real: RealData
) -> dict[str, float]:
    """Trains a predictor and tests it, or reads the figures of an earlier call."""
    config = config.copy_and_resolve_references()
    config.data.source, config.data.train = "npz", f"{place}.npz"
    config.data.kept = config.data.portions = ConfigDict()
    config.data.mirrored = tuple(name for name in config.data.mirrored if name in columns)
    config.seed = seed
    config.training.eval_every = config.training.sample_every = 0
    # All of the pairs are trained on, and nothing is chosen by the examples that judge.
    config.data.held_out, config.training.best_metric, config.training.ema_widths = 0.0, "", ()
    data.write_npz(config.data.train, columns)
    file = place / "figures.json"
    if file.exists():
        experiment.check_workdir(place, config)
        return json.loads(file.read_text(encoding="utf-8"))
    logging.info("%s: %d steps.", place, config.training.num_steps)
    train_to_the_end(config, str(place))
    _, built, params = load(str(place))
    target = config.predict.target
    truth = _pairs(real.test_of(real.primary, target), (real.primary, target))
    given = {real.primary: truth[real.primary]}
    predicted = built.generate(jax.random.key(0), params, len(truth[target]), given)[target]
    measured = evaluation.conditional_figures(real, real.primary, {target: predicted}, truth)
    figures = evaluation.values_of(measured)
    files.write_text(file, json.dumps(figures, indent=1))
    return figures


def _write(
    folder: Path, runs: list[ArmRun], reference: str, names: tuple[str, ...], num_tests: int
) -> str:
    (steps,) = runs[0].steps.values()
    seeds = len({run.seed for run in runs})
    head = (
        f"Predictors of {names[1]!r} from {names[0]!r} after {steps} steps on so many pairs, on "
        f"{num_tests} real test examples, {seeds} seed{'s' if seeds > 1 else ''}; in brackets, the "
        "ratio to those of real pairs."
    )
    table = f"{head}\n\n{baselines.ratios_table(runs, reference, HIGHER_IS_BETTER)}"
    records = [dataclasses.asdict(run) for run in runs]
    files.write_text(folder / f"{_FOLDER}.json", json.dumps(records, indent=1) + "\n")
    files.write_text(folder / f"{_FOLDER}.md", table + "\n")
    return table
