"""The leaves of a state by name, as checkpoints store and compare them."""

from collections.abc import Mapping
from typing import Any

import jax

from mmdiffusion_jax import errors


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
