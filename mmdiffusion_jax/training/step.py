"""The train step: pure, jitted once over the mesh, its state donated."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, Concatenate, Protocol

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding

from mmdiffusion_jax import errors
from mmdiffusion_jax.means import Scalar, join
from mmdiffusion_jax.training.averages import power_decay
from mmdiffusion_jax.training.guard import watch
from mmdiffusion_jax.training.report import StepReport
from mmdiffusion_jax.training.sharding import gathered
from mmdiffusion_jax.training.state import TrainState

Scalars = Mapping[str, Scalar]
Batch = Mapping[str, jax.Array]
"""{column: (batch, …)}."""

Loss = Callable[Concatenate[Any, jax.Array, Batch, ...], tuple[jax.Array, Scalars]]
"""(parameters, key, batch, *constants) → (loss, scalars by name, `loss` among them)."""

# Parameters, their averages and the optimiser's state.
_Trees = tuple[Any, Any, Any]


class Step(Protocol):
    """A compiled train step, from `make_step`."""

    def __call__(
        self, state: TrainState, batch: Batch, /, *constants: Any
    ) -> tuple[TrainState, StepReport]:
        """The state after the step, and a report; the state passed in is given up."""


def take_step(
    state: TrainState,
    batch: Batch,
    loss: Loss,
    optimiser: optax.GradientTransformation,
    ema_decay: float,
    accumulate: int = 1,
) -> tuple[TrainState, StepReport]:
    """One step of training, as a pure function.

    Where the loss or a gradient is not finite, parameters, averages and the optimiser's state stay
    as they were; the step still counts, so that the next one has another batch and other noise.

    Args:
        state: the state before.
        batch: {column: (batch, …)}.
        loss: called without constants.
        optimiser: from `make_optimiser` or any other.
        ema_decay: of the moving average; in its first steps the decay is min(d, (1 + k)/(10 + k)),
            so that the average forgets its initialisation. The others, `state.averages`, have
            the decay of `power_decay`.
        accumulate: parts of the batch that are gone through one after another, to save memory;
            the gradient is the mean of theirs. Part i has the rows i, i + accumulate, …, and the
            key `fold_in(key, i)`. A loss that takes a mean over the examples that have a modality
            takes it over those of a part, and is 0 in a part without any: with few examples a
            part the scarce modality weighs less than in a whole batch.

    Returns:
        The state after, and a report. Its scalars are the loss's own (of the parts of a batch they
        are joined, see `means.join`), `gradient_norm` and, for each entry at the top of the
        parameters, `gradient_norm/<entry>`.

    Raises:
        ValueError: parts that do not divide the batch.
    """
    key = jax.random.fold_in(state.key, state.step)
    gradients, scalars = _gradients(loss, state.params, key, batch, accumulate)
    norms = {name: optax.tree.norm(part) for name, part in _parts(gradients).items()}
    norm = jnp.sqrt(sum(part**2 for part in norms.values()))
    finite = jnp.isfinite(scalars["loss"]) & jnp.isfinite(norm)

    count = state.step.astype(jnp.float32)
    # That of `ema` has the key "".
    decays = {"": jnp.minimum(ema_decay, (1 + count) / (10 + count))}
    decays |= {width: power_decay(float(width), count) for width in state.averages}

    # Both branches of `_where` call this: so it is traced once.
    @functools.partial(jax.jit, inline=True)
    def update(before: _Trees, new: tuple[Any, dict[str, jax.Array]]) -> _Trees:
        (params, averages, opt_state), (gradients, decays) = before, new
        updates, opt_state = optimiser.update(gradients, opt_state, params)
        params = optax.apply_updates(params, updates)
        averages = {
            width: _follow(average, params, decays[width]) for width, average in averages.items()
        }
        return params, averages, opt_state

    before = (state.params, {"": state.ema, **state.averages}, state.opt_state)
    params, averages, opt_state = _where(finite, update, before, (gradients, decays))

    guard, verdict = watch(state.guard, scalars["loss"], finite)
    norms = {f"gradient_norm/{name}": part for name, part in norms.items()}
    finite_columns = {
        column: jnp.isfinite(x).all()
        for column, x in batch.items()
        if jnp.issubdtype(x.dtype, jnp.floating)
    }
    report = StepReport.of({**scalars, "gradient_norm": norm, **norms}, verdict, finite_columns)
    return dataclasses.replace(
        state,
        step=state.step + 1,
        params=params,
        ema=averages.pop(""),
        opt_state=opt_state,
        guard=guard,
        averages=averages,
    ), report


def make_step(
    loss: Loss,
    optimiser: optax.GradientTransformation,
    ema_decay: float,
    state_layout: Any,
    batch_layout: NamedSharding,
    accumulate: int = 1,
    num_constants: int = 0,
) -> Step:
    """`take_step`, compiled over a mesh.

    The loss is a mean over the global batch, so any number of devices takes the same step.

    Args:
        loss: a mean over the batch.
        optimiser: from `make_optimiser` or any other.
        ema_decay: of the moving average.
        state_layout: from `state_sharding`.
        batch_layout: from `batch_sharding`.
        accumulate: parts of the batch, see `take_step`.
        num_constants: how many pytrees the loss takes beside parameters, key and batch, such as the
            parameters of other networks; each device has a copy of them.

    Returns:
        The step; the state that it is called with is given up.
    """
    stored, used = state_layout.params, gathered(state_layout.params)

    def constrained(constants: Any, params: Any, key: jax.Array, batch: Any) -> Any:
        # Left to itself the compiler moves activations here and there. Backwards the first line
        # lays each gradient out as its parameter, so that its sum may be scattered.
        params = jax.lax.with_sharding_constraint(params, stored)
        return loss(jax.lax.with_sharding_constraint(params, used), key, batch, *constants)

    def step(state: TrainState, batch: Any, *constants: Any) -> tuple[TrainState, StepReport]:
        bound_loss = functools.partial(constrained, constants)
        return take_step(state, batch, bound_loss, optimiser, ema_decay, accumulate)

    whole = NamedSharding(batch_layout.mesh, jax.sharding.PartitionSpec())
    return jax.jit(
        step,
        in_shardings=(state_layout, batch_layout, *[whole] * num_constants),
        out_shardings=(state_layout, whole),
        donate_argnums=0,
    )


def _follow(average: Any, params: Any, decay: jax.Array) -> Any:
    # In this form the average of what stays the same is the same to the last bit.
    return jax.tree.map(lambda old, new: old + (1 - decay) * (new - old), average, params)


def _where(
    condition: jax.Array, update: Callable[[_Trees, Any], _Trees], before: _Trees, new: Any
) -> _Trees:
    """What comes of `update` where the condition holds, else what was before."""

    def branch(condition: jax.Array, before: _Trees, new: Any) -> _Trees:
        return jax.lax.cond(condition, update, lambda before, new: before, before, new)

    def select(condition: jax.Array, before: _Trees, new: Any) -> _Trees:
        after = update(before, new)
        return jax.tree.map(lambda a, b: jnp.where(condition, a, b), after, before)

    # A branch saves a CPU copies of parameters and moments; a GPU would ask the host to choose.
    return jax.lax.platform_dependent(condition, before, new, cpu=branch, default=select)


def _gradients(
    loss: Loss, params: Any, key: jax.Array, batch: Batch, accumulate: int
) -> tuple[Any, Scalars]:
    gradient = jax.grad(loss, has_aux=True)
    if accumulate == 1:
        return gradient(params, key, batch)
    size = len(next(iter(batch.values())))
    if size % accumulate:
        raise errors.invalid(
            "accumulate", accumulate, f"a divisor of the batch {size}", "change it"
        )
    # Rows a stride apart, so that each device splits what it holds.
    parts = {
        column: jnp.moveaxis(x.reshape(-1, accumulate, *x.shape[1:]), 1, 0)
        for column, x in batch.items()
    }

    def add(sums: Any, part: Any) -> tuple[Any, Scalars]:
        index, rows = part
        new, scalars = gradient(params, jax.random.fold_in(key, index), rows)
        return jax.tree.map(jnp.add, sums, new), scalars

    zeros = jax.tree.map(jnp.zeros_like, params)
    sums, stacked = jax.lax.scan(add, zeros, (jnp.arange(accumulate), parts))
    return jax.tree.map(lambda total: total / accumulate, sums), join(stacked)


def _parts(tree: Any) -> Mapping[str, Any]:
    return tree if isinstance(tree, Mapping) else {"all": tree}
