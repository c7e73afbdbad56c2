"""Samples from a trained experiment."""

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging

from mmdiffusion_jax import errors, evaluation, experiment, files, ranges, sampling, training
from mmdiffusion_jax.apps.requests import (
    Request,
    check_autoguidance,
    check_decoder_guidance,
    parse_given,
    parse_parts,
)
from mmdiffusion_jax.apps.shards import write_shards
from mmdiffusion_jax.apps.train import load
from mmdiffusion_jax.networks import MultiModalModel

# Samples that the picture shows, and those whose trajectories are written.
_SHEET, _TRAJECTORIES = 100, 10


def sample(
    workdir: str,
    out: str | None = None,
    request: Request | None = None,
    shard_size: int | None = None,
    checkpoint: str = "newest",
    trajectory: int | None = None,
    **options: Any,
) -> Path:
    """Generates samples into `samples-*-of-*.npz` (data units) and the first ones as `samples.png`.

    With `trajectory`, the states that lead from noise to the first ten samples are written as well:
    `trajectory.npz` has `times` (n,), `states` (z_t), `clean` (ẑ_0), each (n, samples, …), and as
    `values/<name>` what would be drawn if sampling ended there, in data units; `trajectory.png`
    shows these values, a row for each sample.

    The same call again goes on where it stopped. Sample k depends on the seed, on its given values
    and on k, not on batches and shards.

    Args:
        workdir: a trained experiment.
        out: the folder for the results; left out, one in `workdir/generated` named by the request.
        request: left out, 100 samples of all modalities.
        shard_size: samples a file; left out, ten batches. One file is held in memory.
        checkpoint: "newest" or "best".
        trajectory: how many states are written of each of the first ten samples; left out, none.
        **options: fields of `SamplingOptions`, in place of the experiment's own.

    Returns:
        The folder.

    Raises:
        ValueError: bad options, bad values of `given`, guidance by the head of a modality that is
            not given, a weaker model without a scale of `autoguidance` or a scale without the
            model, a workdir without a trained experiment, a trajectory where there is none; or a
            folder that cannot be written to or has anything else in it. Nothing is written then.
    """
    workdir = str(files.to_path(workdir, "workdir"))
    folder = None if out is None else files.writable_folder(out, "out")
    request = request or Request()
    ranges.check_whole("seed", request.seed, 0, ranges.MAX_SEED)
    check_autoguidance(options, bool(request.weaker))
    _, built, params = load(workdir, options, checkpoint)
    fixed, begin = parse_parts(request, built.model.modalities)
    parts: dict[str, Any] = {"fixed": fixed, "begin": begin}
    lengths = [len(part.values) for of_names in parts.values() for part in of_names.values()]
    class_names = {name: kind.class_names for name, kind in built.model.modalities.items()}
    default = lengths[0] if lengths else 100
    given, count = parse_given(request, built.model.modalities, default, class_names)
    check_decoder_guidance(options, given)
    generate = built.generate
    if request.weaker:
        _, other, weaker = load(request.weaker)
        generate = built.generator(built.sampling, (other, weaker))
    shard_size = 10 * built.sampling.batch_size if shard_size is None else shard_size
    record = {
        "sampling": dataclasses.asdict(built.sampling),
        "seed": request.seed,
        "num_samples": count,
        "shard_size": shard_size,
        "parameters": training.tree_digest(params),
        "given": {
            name: training.tree_digest(experiment.distinct(x)) for name, x in sorted(given.items())
        },
    }
    if request.weaker:
        record["weaker"] = training.tree_digest(weaker)
    if lengths:
        levels = {name: part.level for name, part in sorted(begin.items())}
        record["parts"] = {"digest": training.tree_digest(parts), "levels": levels}
    if folder is None:
        folder = files.to_path(workdir) / "generated" / _name(record)
    key = jax.random.key(request.seed)

    def make(first: int, size: int) -> dict[str, np.ndarray]:
        part = {name: x[first : first + size] for name, x in given.items()}
        few = jax.tree.map(lambda x: x[first : first + size], parts)
        return generate(key, params, size, part, first, **few)

    generate.check(count, given, **parts)
    states = None
    if trajectory is not None:
        if lengths or request.weaker:
            raise errors.invalid(
                "trajectory", "samples with a part, or a weaker model", "neither", "leave one out"
            )
        size = min(count, _TRAJECTORIES)
        few = {name: x[:size] for name, x in given.items()}
        states = jax.device_get(built.trajectory(key, params, size, few, trajectory))
    shards = write_shards(folder, record, count, shard_size, make)
    with files.local_copy(shards[0]) as copy, np.load(copy) as first_file:
        shown = {name: first_file[name][:_SHEET] for name in first_file.files}
    files.write_png(folder / "samples.png", evaluation.contact_sheet(built.model, shown))
    if states is not None:
        _write_trajectory(folder, built.model, states)
    logging.info("%d samples in %s.", count, folder)
    return folder


def _write_trajectory(folder: Path, model: MultiModalModel, states: sampling.Trajectory) -> None:
    values = {f"values/{name}": x for name, x in states.values.items()}
    arrays = {"times": states.times, "states": states.states, "clean": states.clean, **values}
    with files.replacing(folder / "trajectory.npz") as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]
    # A row for each sample, from noise to data.
    in_rows = {
        name: np.swapaxes(x, 0, 1).reshape(-1, *x.shape[2:]) for name, x in states.values.items()
    }
    sheet = evaluation.contact_sheet(model, in_rows, columns=len(states.times))
    files.write_png(folder / "trajectory.png", sheet)


def _name(request: Mapping[str, Any]) -> str:
    """A folder name with the main options and a digest of all of them."""
    options = request["sampling"]
    parts = [options["sampler"]["kind"], str(options["num_steps"] or "all")]
    parts += [f"given-{name}" for name in request["given"]]
    digest = hashlib.sha256(repr(sorted(request.items())).encode()).hexdigest()
    return "_".join([*parts, f"seed-{request['seed']}", digest[:8]])
