"""How an experiment is trained on data that are open, into a folder that is held."""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging
from flax import traverse_util

from mmdiffusion_jax import data, errors, files, training
from mmdiffusion_jax.experiment.build import Experiment
from mmdiffusion_jax.experiment.pretrained import CHECKPOINTS, FILE, Pretrained, open_pretrained
from mmdiffusion_jax.experiment.sections.reading import under
from mmdiffusion_jax.experiment.sources import mirror

# Examples of a modality in a part of a batch, below which parts without any are frequent.
_FEW = 3
# Examples that are looked at, evenly spread.
_SAMPLE = 10_000


@dataclasses.dataclass(frozen=True)
class Constraint:
    """Another loss and other first parameters than the experiment's, for updates of other models.

    Attributes:
        loss: (parameters, key, batch, *constants) → (loss, scalars).
        init: (key, *constants) → the parameters that training begins with.
        constants: pytrees of arrays that the loss takes, such as other models' parameters.
        frozen: a pytree of booleans like the parameters, which of them stay as they are; or None.
    """

    loss: training.step.Loss
    init: training.state.Init
    constants: tuple[Any, ...] = ()
    frozen: Any = None


@training.rare_collections()
def fit(
    built: Experiment,
    source: data.Source,
    folder: Path,
    monitor: training.Monitor,
    constraint: Constraint | None = None,
    pretrained: Pretrained | None = None,
) -> training.TrainState:
    """Trains from the newest checkpoint in a folder, or from the beginning, to the last step.

    Where `init_from` names a source, a checkpoint of step 0 holds what was taken of it before the
    first step. So a run that goes on does not need the source, and takes nothing twice.

    Args:
        built: the experiment.
        source: the training split; a predictor trains on the examples alone that have all that it
            sees and predicts, others as `data.portions` says.
        folder: held by this run, see `hold_workdir`.
        monitor: evaluates, draws and profiles, such as `evaluation.monitor`.
        constraint: what replaces the experiment's loss and initialisation, or None.
        pretrained: from `open_pretrained`, where the caller has opened it; left out, it is opened.

    Returns:
        The state after the last step taken.

    Raises:
        ValueError: no training example has what the formulation needs, `init_from` with a
            constraint, portions that cannot be met together, a column that is mirrored without
            what is derived from it, or as `open_pretrained`.
    """
    mesh, split, rows = share_batch(built)
    size = built.training.batch_size
    source = _training_examples(built, source)
    _warn_of_small_parts(built, source)
    if constraint and built.settings.init_from:
        raise errors.invalid(
            "config.init_from",
            built.settings.init_from,
            "nothing where a constraint initialises the parameters",
            "leave it out",
        )
    if pretrained := pretrained or open_pretrained(built, folder):
        _save_first(built, mesh, folder, pretrained)
    step, state = make_step_and_state(built, mesh, constraint)
    count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    logging.info("%d parameters, %d training examples, %d devices.", count, len(source), mesh.size)

    def open_batches(start_example: int) -> Iterator[Mapping[str, jax.Array]]:
        batches = data.train_batches(
            source, batch_size=size, seed=built.seed, start_example=start_example, rows=rows
        )
        read = (data.select(batch, built.model.modalities) for batch in batches)
        return data.to_device(read, split, size, rows)

    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    return training.train(
        built.training,
        folder,
        state,
        step,
        open_batches,
        monitor,
        jax.device_put(constraint.constants, whole) if constraint else (),
    )


def _save_first(
    built: Experiment, mesh: jax.sharding.Mesh, folder: Path, pretrained: Pretrained
) -> None:
    """Saves the first state of a run that begins with parameters of another model."""
    with training.Checkpoints(folder / CHECKPOINTS, keep=built.training.keep) as checkpoints:
        if checkpoints.steps():  # of another run, since the source was opened
            return
        report = pretrained.report(built)
        logging.info("%s", report)
        if jax.process_index() == 0:
            files.write_text(folder / FILE, report + "\n")
        state = first_state(built, mesh, pretrained)
        checkpoints.save(0, state, {"next_example": 0})


def first_state(
    built: Experiment, mesh: jax.sharding.Mesh, pretrained: Pretrained
) -> training.TrainState:
    """The state that training begins with where it begins with parameters of another model.

    What is taken is bit for bit the source's, in the parameters and in every average. The
    optimiser's state is that of a beginning. No device holds more than its part.

    Raises:
        ValueError: as `Pretrained.transfer`.
    """
    layout = traverse_util.flatten_dict(abstract_state(built, mesh).params, sep="/")
    taken = {
        name: jax.make_array_from_callback(x.shape, layout[name].sharding, x.__getitem__)
        for name, x in pretrained.taken(built).items()
    }

    def init(key: jax.Array, taken: Mapping[str, jax.Array]) -> Any:
        fresh = traverse_util.flatten_dict(built.init(key), sep="/")
        return traverse_util.unflatten_dict({**fresh, **taken}, sep="/")

    options = built.training
    return training.create_state(
        jax.random.key(built.seed),
        init,
        training.make_optimiser(options),
        mesh,
        built.sharding,
        (taken,),
        options.ema_widths,
    )


def _training_examples(built: Experiment, source: data.Source) -> data.Source:
    """The examples that batches are drawn from, some of them several times or mirrored."""
    options, modalities = built.settings.data, built.model.modalities
    # An image may be no modality itself, and yet be what one is drawn from.
    used = {*modalities, *(modality.derived_from for modality in modalities.values())}
    if mirrored := [name for name in options.mirrored if name in used]:
        with under("config.data"):
            source = data.beneath(source, lambda plain: mirror(plain, modalities, mirrored))
    if needs := built.formulation.needs:
        return data.having(source, needs)
    portions = {name: x for name, x in sorted(options.portions.items()) if name in modalities}
    with under("config.data"):
        return data.in_portions(source, portions)


def _warn_of_small_parts(built: Experiment, source: data.Source) -> None:
    """Says which modalities parts of a batch often lack, where batches are gone through in parts.

    A part without any example of a modality adds nothing to its loss, which then weighs less.
    """
    options = built.training
    if options.accumulate == 1:
        return
    rows = np.linspace(0, len(source) - 1, min(_SAMPLE, len(source))).astype(np.int64)
    counts = data.count_present(data.Subset(source, rows), built.model.modalities)
    size = options.batch_size / options.accumulate
    for name, count in sorted(counts.items()):
        if count < len(rows) and (expected := count / len(rows) * size) < _FEW:
            logging.warning(
                "training.accumulate = %d: of the %d examples of a part %.2g have %r on average. "
                "Parts without any add 0 to its loss, which so weighs less than in a whole batch: "
                "take fewer parts, or raise its portion by config.data.portions.",
                options.accumulate,
                size,
                expected,
                name,
            )


def share_batch(
    built: Experiment,
) -> tuple[jax.sharding.Mesh, jax.sharding.NamedSharding, np.ndarray]:
    """How the devices share an experiment's batch; call it before anything is written.

    Returns:
        (the mesh, the sharding of a batch, the rows of a batch that this process loads).

    Raises:
        ValueError: a mesh that the devices do not make, or a batch that they cannot share.
    """
    mesh = training.make_mesh(built.sharding)
    size = built.training.batch_size
    split = training.batch_sharding(mesh, size)
    return mesh, split, training.local_rows(split, size)


def make_step_and_state(
    built: Experiment, mesh: jax.sharding.Mesh, constraint: Constraint | None = None
) -> tuple[training.step.Step, training.TrainState]:
    """The compiled train step of an experiment and the state that training begins with."""
    options = built.training
    constraint = constraint or Constraint(built.loss, built.init)
    optimiser = training.make_optimiser(options, constraint.frozen)
    key = jax.random.key(built.seed)
    state = training.create_state(
        key,
        constraint.init,
        optimiser,
        mesh,
        built.sharding,
        constraint.constants,
        options.ema_widths,
    )
    step = training.make_step(
        constraint.loss,
        optimiser,
        options.ema_decay,
        training.state_sharding(mesh, state, built.sharding),
        training.batch_sharding(mesh, options.batch_size),
        options.accumulate,
        len(constraint.constants),
    )
    return step, state


def abstract_state(
    built: Experiment, mesh: jax.sharding.Mesh | jax.sharding.AbstractMesh
) -> training.TrainState:
    """What a checkpoint of an experiment holds, as `jax.ShapeDtypeStruct` on a mesh."""
    key = jax.random.key(built.seed)
    options = built.training
    optimiser = training.make_optimiser(options)
    return training.abstract_state(
        key, built.init, optimiser, mesh, built.sharding, options.ema_widths
    )
