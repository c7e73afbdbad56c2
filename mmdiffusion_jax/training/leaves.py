"""The leaves of a state by name, as checkpoints store and compare them."""

import os
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from mmdiffusion_jax import errors
from mmdiffusion_jax.training.orbax_buckets import for_orbax


def named_leaves(
    tree: Any, argument: str, kinds: tuple[type, ...]
) -> tuple[dict[str, Any], jax.tree_util.PyTreeDef]:
    """A tree as {path: leaf} and its structure; errors call it `argument`.

    Raises:
        ValueError: no leaves, a leaf of another kind, two of one name.

    Example:
        >>> import jax.numpy as jnp
        >>> list(named_leaves({"a": {"b": jnp.zeros(2)}}, "state", (jax.Array,))[0])
        ['a/b']
    """
    pairs, structure = jax.tree_util.tree_flatten_with_path(tree)
    leaves = {}
    for path, leaf in pairs:
        name = jax.tree_util.keystr(path, simple=True, separator="/") or "state"
        expected = " or ".join(f"a jax.{kind.__name__}" for kind in kinds)
        if not isinstance(leaf, kinds):
            got = f"a {type(leaf).__name__} at {name!r}"
            raise errors.invalid(argument, got, expected, "wrap it in `jnp.asarray`")
        if name in leaves:
            got = f"two leaves named {name!r}"
            raise errors.invalid(argument, got, "one leaf a name", "keep '/' out of the dict keys")
        leaves[name] = leaf
    if not leaves:
        raise errors.invalid(argument, "a tree without leaves", "one array or more", "add arrays")
    return leaves, structure


def is_key(leaf: Any) -> bool:
    """Whether a leaf is a typed key."""
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def describe(leaf: Any) -> str:
    """A leaf's dtype and shape as a text.

    Example:
        >>> describe(jax.ShapeDtypeStruct((2, 3), "float32"))
        'float32[2, 3]'
    """
    return f"{leaf.dtype}[{', '.join(map(str, leaf.shape))}]"


def storage(leaf: Any) -> jax.ShapeDtypeStruct:
    """The array that a leaf is stored as; a typed key's data has one axis more."""
    sharding = leaf.sharding or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    stored = jax.eval_shape(jax.random.key_data, leaf) if is_key(leaf) else leaf
    return jax.ShapeDtypeStruct(stored.shape, stored.dtype, sharding=sharding)


class OtherStateError(ValueError):
    """A checkpoint of another state than is asked for: other leaves, shapes or dtypes."""


def require_same(step: int, template: Mapping[str, str], stored: Mapping[str, str]) -> None:
    """Compares {leaf: its description} of a template with that of the checkpoint of a step.

    Raises:
        OtherStateError: naming the first leaf in which they differ.
    """
    for name in [*template, *stored]:
        if template.get(name) != stored.get(name):
            words = errors.message(
                "template",
                f"{template.get(name, 'no leaf')} at {name!r}",
                f"{stored.get(name, 'no leaf')} there, as the checkpoint of step {step} holds",
                "build the state from the config the checkpoint was trained with",
            )
            raise OtherStateError(words)


def read_leaves(folder: str | os.PathLike[str], names: Iterable[str]) -> dict[str, np.ndarray]:
    """Reads some leaves of a state {name: leaf} that Orbax saved, into host memory.

    Args:
        folder: of the state alone.
        names: of the leaves, all of them there.

    Example:
        >>> import tempfile
        >>> import jax.numpy as jnp
        >>> folder = f"{tempfile.mkdtemp()}/state"
        >>> with ocp.StandardCheckpointer() as checkpointer:
        ...     checkpointer.save(folder, {"ema/w": jnp.ones(2), "params/w": jnp.zeros(2)})
        >>> read_leaves(folder, ["ema/w"])
        {'ema/w': array([1., 1.], dtype=float32)}
    """
    wanted = dict.fromkeys(names, 0)
    if not wanted:
        return {}
    args = ocp.args.PyTreeRestore(
        item=wanted,
        restore_args=dict.fromkeys(wanted, ocp.RestoreArgs(restore_type=np.ndarray)),
        partial_restore=True,
    )
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        return checkpointer.restore(for_orbax(folder), args=args)
