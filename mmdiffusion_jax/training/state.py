"""The state of training: all that one step hands to the next."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Concatenate

import jax
import jax.numpy as jnp
import optax
from jax.sharding import AbstractMesh, Mesh

from mmdiffusion_jax.training.guard import Guard, fresh_guard
from mmdiffusion_jax.training.sharding import ShardingOptions, state_sharding

Init = Callable[Concatenate[jax.Array, ...], Any]
"""(key, *constants) → parameters."""


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
        guard: statistics of past losses, against which `guard.watch` holds the next.
        averages: {width: average}, others beside `ema`, over a share of the run each; see
            `power_decay`.
    """

    step: jax.Array
    params: Any
    ema: Any
    opt_state: Any
    key: jax.Array
    guard: Guard
    averages: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def averaged(self, position: Mapping[str, Any]) -> Any:
        """What is evaluated and sampled from: `ema`, or the average that a position names."""
        return self.averages.get(position.get("average", ""), self.ema)

    @staticmethod
    def averaged_path(position: Mapping[str, Any]) -> str:
        """Where `averaged` lies in a state that was saved with a position.

        Example:
            >>> TrainState.averaged_path({}), TrainState.averaged_path({"average": "0.1"})
            ('ema', 'averages/0.1')
        """
        width = position.get("average", "")
        return f"averages/{width}" if width else "ema"


def create_state(
    key: jax.Array,
    init: Init,
    optimiser: optax.GradientTransformation,
    mesh: Mesh,
    options: ShardingOptions | None = None,
    constants: Sequence[Any] = (),
    widths: Sequence[float] = (),
) -> TrainState:
    """A fresh state, made where it lives: no device ever holds more than its part.

    The values do not depend on the mesh.

    Args:
        key: a typed key; one half initialises the parameters, the other drives the steps.
        init: called with the key and the constants.
        optimiser: any of optax, such as `make_optimiser` gives.
        mesh: from `make_mesh`.
        options: what is split over it.
        constants: pytrees of arrays, such as the parameters of other models.
        widths: of the averages that are kept beside `ema`.

    Raises:
        ValueError: a rule of the options that does not fit.

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> from mmdiffusion_jax.training import make_mesh
        >>> init = lambda key: {"w": jnp.zeros(3)}
        >>> state = create_state(jax.random.key(0), init, optax.sgd(0.1), make_mesh())
        >>> int(state.step), state.ema["w"].shape
        (0, (3,))
    """
    build = _builder(init, optimiser, widths)
    layout = state_sharding(mesh, jax.eval_shape(build, key, *constants), options)
    return jax.jit(build, out_shardings=layout)(key, *constants)


def abstract_state(
    key: jax.Array,
    init: Init,
    optimiser: optax.GradientTransformation,
    mesh: Mesh | AbstractMesh,
    options: ShardingOptions | None = None,
    widths: Sequence[float] = (),
) -> TrainState:
    """The state that `create_state` makes of the same arguments, as shapes; nothing is computed.

    It is the template of `Checkpoints.restore` where no state is at hand.

    Returns:
        A state whose leaves are `jax.ShapeDtypeStruct` with their shardings.

    Raises:
        ValueError: a rule of the options that does not fit.

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> from mmdiffusion_jax.training import make_mesh
        >>> init = lambda key: {"w": jnp.zeros(3)}
        >>> state = abstract_state(jax.random.key(0), init, optax.sgd(0.1), make_mesh())
        >>> state.params["w"].shape
        (3,)
    """
    shapes = jax.eval_shape(_builder(init, optimiser, widths), key)
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        shapes,
        state_sharding(mesh, shapes, options),
    )


def _builder(
    init: Init, optimiser: optax.GradientTransformation, widths: Sequence[float]
) -> Callable[Concatenate[jax.Array, ...], TrainState]:
    def build(key: jax.Array, *constants: Any) -> TrainState:
        init_key, run_key = jax.random.split(key)
        params = init(init_key, *constants)
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            ema=jax.tree.map(jnp.copy, params),
            opt_state=optimiser.init(params),
            key=run_key,
            guard=fresh_guard(),
            averages={str(width): jax.tree.map(jnp.copy, params) for width in widths},
        )

    return build
