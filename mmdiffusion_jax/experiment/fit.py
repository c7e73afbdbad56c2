"""How an experiment is trained on data that are open, into a folder that is held."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from absl import logging

from mmdiffusion_jax import data, errors, evaluation, generation, training
from mmdiffusion_jax.experiment.build import Experiment

_SHEET = 100


@dataclasses.dataclass(frozen=True)
class Constraint:
    """How training differs where an experiment is to keep something of other models.

    Attributes:
        loss: (parameters, key, batch, *constants) → (loss, scalars), in place of its own.
        init: (key, *constants) → parameters to begin with.
        constants: pytrees of arrays that the loss takes, such as other models' parameters.
        frozen: a pytree of booleans like the parameters, which of them stay as they are; or None.
    """

    loss: training.step.Loss
    init: Callable[..., Any]
    constants: tuple[Any, ...] = ()
    frozen: Any = None


def fit(
    built: Experiment,
    source: data.Source,
    test: data.Source,
    folder: Path,
    profile: tuple[int, int] | None = None,
    constraint: Constraint | None = None,
) -> training.TrainState:
    """Trains from the newest checkpoint in a folder, or from the beginning, to the last step.

    Args:
        built: the experiment.
        source: the training split.
        test: the test split, for evaluation.
        folder: held by this run, see `hold_workdir`.
        profile: (first, last) step to record into `folder/profile`, or None.
        constraint: what it is to keep of other models, or None.

    Returns:
        The state after the last step taken.

    Raises:
        ValueError: a `training.best_metric` that the evaluation of this test split will not have.
    """
    _check_best_metric(built, test)
    mesh, split, rows = share_batch(built)
    size = built.training.batch_size
    step, state = make_step_and_state(built, mesh, constraint)
    count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    logging.info("%d parameters, %d training examples, %d devices.", count, len(source), mesh.size)

    def open_batches(start_example: int) -> Iterator[Mapping[str, jax.Array]]:
        batches = data.train_batches(
            source, batch_size=size, seed=built.seed, start_example=start_example, rows=rows
        )
        read = (data.select(batch, built.model.modalities) for batch in batches)
        return data.to_device(read, split, size, rows)

    def picture(params: Any) -> np.ndarray:
        # A network that only predicts is shown what it makes of test examples.
        shown = built.config.predict.given if built.formulation == "predict" else ()
        rows = data.rows_with(test, shown, _SHEET)
        given = {name: x for name, x in test.take(rows).items() if name in shown}
        samples = built.generate(jax.random.key(built.seed), params, len(rows), given)
        return generation.contact_sheet(built.model, samples)

    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    return training.train(
        built.training,
        folder,
        state,
        step,
        open_batches,
        evaluation.loss_on(built, test),
        picture,
        profile,
        jax.device_put(constraint.constants, whole) if constraint else (),
    )


def _check_best_metric(built: Experiment, test: data.Source) -> None:
    metric = built.training.best_metric
    if metric and metric not in (names := evaluation.loss_names(built, test)):
        raise ValueError(
            errors.unknown(
                "training.best_metric", metric, names, "the evaluation on the test split has these"
            )
        )


def share_batch(
    built: Experiment,
) -> tuple[jax.sharding.Mesh, jax.sharding.NamedSharding, np.ndarray]:
    """How the devices share an experiment's batch; ask before anything is written.

    Args:
        built: the experiment.

    Returns:
        (the mesh, the sharding of a batch, the rows of this process).

    Raises:
        ValueError: a mesh that the devices do not make, or a batch that they cannot share.
    """
    mesh = training.make_mesh(built.sharding)
    size = built.training.batch_size
    split = training.batch_sharding(mesh, size)
    return mesh, split, training.local_rows(split, size)


def make_step_and_state(
    built: Experiment,
    mesh: jax.sharding.Mesh,
    constraint: Constraint | None = None,
) -> tuple[training.step.Step, training.TrainState]:
    """The compiled train step of an experiment and the state that it begins with.

    Args:
        built: the experiment.
        mesh: from `training.make_mesh`.
        constraint: what it is to keep of other models, or None.
    """
    options = built.training
    constraint = constraint or Constraint(built.loss, built.init)
    optimiser = _optimiser(built, constraint.frozen)
    key = jax.random.key(built.seed)
    state = training.create_state(
        key, constraint.init, optimiser, mesh, built.sharding, constraint.constants
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


def abstract_state(built: Experiment, mesh: jax.sharding.Mesh) -> training.TrainState:
    """What a checkpoint of an experiment holds, as `jax.ShapeDtypeStruct` with shardings.

    Args:
        built: the experiment.
        mesh: from `training.make_mesh`.
    """
    key = jax.random.key(built.seed)
    return training.abstract_state(key, built.init, _optimiser(built), mesh, built.sharding)


def _optimiser(built: Experiment, frozen: Any = None) -> optax.GradientTransformation:
    options = built.training
    return training.make_optimiser(
        options.learning_rate,
        options.warmup_steps,
        options.num_steps,
        options.weight_decay,
        options.gradient_clip,
        frozen,
    )
