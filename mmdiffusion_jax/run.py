"""What the launch scripts run: train, sample and evaluate an experiment in its workdir."""

import json
import logging as stdlib_logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import app, logging
from ml_collections import ConfigDict
from PIL import Image as PillowImage

from mmdiffusion_jax import data, errors, evaluation, experiment, generation, training

_SHEET = 100


def start(main: Callable[[list[str]], None]) -> None:
    """Runs a launch script: one line for bad input instead of a trace, and a compilation cache.

    The cache lives in `JAX_COMPILATION_CACHE_DIR`, or in the user's own cache folder.
    """

    def guarded(argv: list[str]) -> None:
        logging.set_verbosity(logging.INFO)
        logging.get_absl_handler().addFilter(_is_worth_reading)
        folder = os.environ.get("JAX_COMPILATION_CACHE_DIR", "~/.cache/mmdiffusion_jax/xla")
        jax.config.update("jax_compilation_cache_dir", str(Path(folder).expanduser()))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
        try:
            main(argv)
        except (ValueError, FloatingPointError) as error:
            if logging.level_debug():
                raise
            sys.exit(f"error: {error}")

    try:
        app.run(guarded)
    except (AttributeError, KeyError, TypeError):
        # A flag such as --config.x for a key the config lacks fails while flags are parsed.
        unknown = experiment.unknown_override(sys.argv[1:])
        if unknown is None:
            raise
        sys.exit(f"error: {unknown}")


def _is_worth_reading(record: stdlib_logging.LogRecord) -> bool:
    """Our own messages, and errors of the libraries underneath."""
    ours = Path(record.pathname).is_relative_to(Path(__file__).parent)
    return ours or record.levelno >= stdlib_logging.ERROR


def train(config: ConfigDict, workdir: str) -> training.TrainState:
    """Trains an experiment, or goes on with the one in `workdir`.

    Args:
        config: the experiment.
        workdir: where it is kept.

    Returns:
        The state after the last step.

    Raises:
        ValueError: a bad config, bad data, or a workdir that holds another experiment.
    """
    built = experiment.build(config)
    mesh = training.make_mesh()
    whole, split = (
        training.replicated(mesh),
        training.batch_sharding(mesh, built.training.batch_size),
    )
    source, test = experiment.open_data(config)
    folder = experiment.claim_workdir(workdir, config)
    step, state = make_step_and_state(built, whole, split)
    count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    logging.info("%d parameters, %d training examples, %d devices.", count, len(source), mesh.size)

    def open_batches(start_example: int) -> Any:
        batches = data.train_batches(
            source,
            batch_size=built.training.batch_size,
            seed=built.seed,
            start_example=start_example,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )
        return data.to_device(batches, split)

    def picture(params: Any) -> np.ndarray:
        return generation.contact_sheet(
            built.model, built.generate(jax.random.key(built.seed), params, _SHEET)
        )

    return training.train(
        built.training,
        folder,
        state,
        step,
        open_batches,
        evaluation.loss_on(built, test),
        picture,
    )


def make_step_and_state(
    built: experiment.Experiment,
    state_sharding: jax.sharding.NamedSharding,
    data_sharding: jax.sharding.NamedSharding,
) -> tuple[training.step.Step, training.TrainState]:
    """The compiled train step of an experiment and its fresh state."""
    options = built.training
    optimiser = training.make_optimiser(
        options.learning_rate,
        options.warmup_steps,
        options.num_steps,
        options.weight_decay,
        options.gradient_clip,
    )
    step = training.make_step(
        built.loss, optimiser, options.ema_decay, state_sharding, data_sharding
    )
    key = jax.random.key(built.seed)
    return step, training.create_state(key, built.init, optimiser, state_sharding)


def load(workdir: str) -> tuple[ConfigDict, experiment.Experiment, Any]:
    """The config, the experiment and the averaged parameters of the newest checkpoint.

    Raises:
        ValueError: no experiment or no usable checkpoint in `workdir`.
    """
    config = experiment.read_config(workdir)
    built = experiment.build(config)
    whole = training.replicated(training.make_mesh(jax.devices()[:1]))
    _, template = make_step_and_state(built, whole, whole)
    with training.Checkpoints(Path(workdir) / "checkpoints", read_only=True) as checkpoints:
        restored = checkpoints.restore(template)
    if restored is None:
        raise ValueError(
            errors.message("workdir", workdir, "a checkpoint in it", "train there first")
        )
    logging.info("Parameters of step %d.", restored.step)
    return config, built, restored.state.ema


def sample(
    workdir: str, out: str, num_samples: int, given: Sequence[str] = (), seed: int = 0
) -> dict[str, np.ndarray]:
    """Generates samples and writes `samples.npz` (data units) and `samples.png` into `out`.

    Args:
        workdir: a trained experiment.
        out: the folder for the results.
        num_samples: how many.
        given: "name=value" or "name=FILE", an `.npz` with an array of that name or an `.npy`.
        seed: of the draws.

    Returns:
        {name: (num_samples, …)}.

    Raises:
        ValueError: bad values of `given`, or a workdir without a trained experiment.
    """
    _, built, params = load(workdir)
    known = parse_given(given, num_samples, built)
    samples = built.generate(jax.random.key(seed), params, num_samples, known)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "samples.tmp.npz", **samples)  # type: ignore[arg-type]
    os.replace(folder / "samples.tmp.npz", folder / "samples.npz")
    shown = {name: x[:_SHEET] for name, x in samples.items()}
    PillowImage.fromarray(generation.contact_sheet(built.model, shown)).save(folder / "samples.png")
    logging.info("Wrote %d samples to %s.", num_samples, folder)
    return samples


def evaluate(workdirs: Sequence[str]) -> list[dict[str, float]]:
    """Evaluates each workdir: prints a table and writes `metrics.json` into it.

    Args:
        workdirs: trained experiments; of several, the mean and the standard deviation are printed.

    Returns:
        The figures of each.

    Raises:
        ValueError: a workdir without a trained experiment.
    """
    found = []
    for workdir in workdirs:
        config, built, params = load(workdir)
        figures = evaluation.evaluate(built, params, *experiment.open_data(config))
        temporary = Path(workdir) / "metrics.json.tmp"
        temporary.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
        os.replace(temporary, Path(workdir) / "metrics.json")
        print(f"# {workdir}\n{evaluation.table(figures)}", flush=True)
        found.append(figures)
    if len(found) > 1:
        print(f"# mean and standard deviation over {len(found)} runs")
        width = max(map(len, found[0]))
        for name in found[0]:
            values = [figures[name] for figures in found]
            print(f"{name:<{width}}  {np.mean(values):.4f} ± {np.std(values, ddof=1):.4f}")
    return found


def parse_given(
    given: Sequence[str], num_samples: int, built: experiment.Experiment
) -> dict[str, np.ndarray]:
    """Reads "name=value" and "name=FILE" into arrays with one value a sample.

    Raises:
        ValueError: a text without "=", an unknown or repeated modality, a value that is no number,
            or a file without the array.
    """
    known: dict[str, np.ndarray] = {}
    for text in given:
        name, separator, value = text.partition("=")
        if not separator or not value:
            raise ValueError(
                errors.message("given", repr(text), "name=value or name=FILE", "as in label=3")
            )
        if name not in built.model.modalities:
            raise ValueError(errors.unknown("given", name, built.model.modalities))
        if name in known:
            raise ValueError(errors.message("given", f"{name!r} twice", "each once", "drop one"))
        known[name] = _given_values(name, value, num_samples)
    return known


def _given_values(name: str, value: str, num_samples: int) -> np.ndarray:
    if value.endswith(".npy"):
        try:
            return np.load(value, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise ValueError(
                errors.message(f"given {name}", f"{value!r} ({error})", "an .npy file", "check it")
            ) from error
    if value.endswith(".npz"):
        source = data.open_npz(value)
        if name not in source.columns:
            raise ValueError(errors.unknown(f"given {name}", name, source.columns))
        return source.take(np.arange(len(source)))[name]
    try:
        return np.full((num_samples,), int(value), np.int32)
    except ValueError as error:
        raise ValueError(
            errors.message(
                f"given {name}", repr(value), "a whole number or a .npz or .npy file", "as in 3"
            )
        ) from error
