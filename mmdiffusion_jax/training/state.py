"""Everything a run carries from step to step."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """The state of training, a pytree that is donated to each step.

    Attributes:
        step: how many steps were taken, a scalar int32.
        params: the parameters.
        ema: their exponential moving average, what is evaluated and sampled from.
        opt_state: the optimiser's state.
        key: the run's typed key; step k uses `fold_in(key, k)`.
    """

    step: jax.Array
    params: Any
    ema: Any
    opt_state: Any
    key: jax.Array


def create_state(
    key: jax.Array,
    init: Callable[[jax.Array], Any],
    optimiser: optax.GradientTransformation,
    sharding: jax.sharding.Sharding,
) -> TrainState:
    """A fresh state, laid out by `sharding`.

    Args:
        key: a typed key; one half initialises the parameters, the other drives the steps.
        init: key → parameters.
        optimiser: gives the optimiser's state.
        sharding: where every leaf lives.

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        >>> init = lambda key: {"w": jnp.zeros(3)}
        >>> state = create_state(jax.random.key(0), init, optax.sgd(0.1), device)
        >>> int(state.step), state.ema["w"].shape
        (0, (3,))
    """

    def build(key: jax.Array) -> TrainState:
        init_key, run_key = jax.random.split(key)
        params = init(init_key)
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            ema=jax.tree.map(jnp.copy, params),
            opt_state=optimiser.init(params),
            key=run_key,
        )

    return jax.jit(build, out_shardings=sharding)(key)
