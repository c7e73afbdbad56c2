"""The train step: pure, jitted once over the mesh, its state donated."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding

from mmdiffusion_jax.training.state import TrainState

Metrics = dict[str, jax.Array]
Loss = Callable[[Any, jax.Array, Mapping[str, jax.Array]], tuple[jax.Array, Metrics]]
"""(parameters, key, batch) → (loss, scalars)."""

Step = Callable[[TrainState, Mapping[str, jax.Array]], tuple[TrainState, Metrics]]


def make_optimiser(
    learning_rate: float,
    warmup_steps: int,
    num_steps: int,
    weight_decay: float,
    gradient_clip: float,
) -> optax.GradientTransformation:
    """AdamW behind a clip of the global gradient norm; linear warm-up, then a cosine to zero.

    Args:
        learning_rate: its peak.
        warmup_steps: from zero to the peak.
        num_steps: of the whole run.
        weight_decay: decoupled; matrices only, so that biases and norms are left alone.
        gradient_clip: greatest global norm.

    Example:
        >>> optimiser = make_optimiser(1e-3, 10, 100, 1e-4, 1.0)
        >>> state = optimiser.init({"w": jnp.zeros((2, 2))})
    """
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, learning_rate, min(warmup_steps, num_steps - 1), num_steps
    )
    return optax.chain(
        optax.clip_by_global_norm(gradient_clip),
        optax.adamw(
            schedule,
            weight_decay=weight_decay,
            mask=lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params),
        ),
    )


def make_step(
    loss: Loss,
    optimiser: optax.GradientTransformation,
    ema_decay: float,
    state_sharding: NamedSharding,
    data_sharding: NamedSharding,
) -> Step:
    """Compiles one step of training.

    The loss is a mean over the global batch, so any number of devices takes the same step.

    Args:
        loss: (parameters, key, batch) → (loss, scalars).
        optimiser: from `make_optimiser` or any other.
        ema_decay: of the moving average; in its first steps the decay is min(d, (1 + k)/(10 + k)),
            so that the average forgets its initialisation.
        state_sharding: the state's layout.
        data_sharding: the batch's layout.

    Returns:
        (state, batch) → (state, scalars); the state passed in is given up.
    """

    def step(state: TrainState, batch: Mapping[str, jax.Array]) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(state.key, state.step)
        gradients, metrics = jax.grad(loss, has_aux=True)(state.params, key, batch)
        updates, opt_state = optimiser.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        count = state.step.astype(jnp.float32)
        decay = jnp.minimum(ema_decay, (1 + count) / (10 + count))
        ema = jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, state.ema, params)
        metrics = {**metrics, "gradient_norm": optax.tree.norm(gradients)}
        return TrainState(state.step + 1, params, ema, opt_state, state.key), metrics

    return jax.jit(
        step,
        in_shardings=(state_sharding, data_sharding),
        out_shardings=(state_sharding, state_sharding),
        donate_argnums=0,
    )
