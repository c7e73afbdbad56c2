"""The losses over several devices, for code that is written with `shard_map` or `pmap`."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax.sharding import Mesh, PartitionSpec

from mmdiffusion_jax import errors
from mmdiffusion_jax.model.batches import column
from mmdiffusion_jax.process.checks import (
    as_key,
    expect,
    expect_callable,
    expect_name,
    expect_names,
)

PartLoss = Callable[[Any, jax.Array, Mapping[str, jax.Array]], tuple[jax.Array, Any]]
"""(parameters, key, part of the batch) → (loss, scalars), whose means over the devices are those of
the batch, as with `axis_name` of `simple_loss`."""


def shard_map_loss(loss: PartLoss, mesh: Mesh, axis_name: str) -> PartLoss:
    """A loss of the whole batch, each device of one mesh axis working on its part of it.

    Each device has another key, `fold_in(key, place along the axis)`. The gradient of the result by
    its first argument is the gradient of the mean.

    Args:
        loss: of one part.
        mesh: has the axis; where its type is Explicit, the batch must lie along it already.
        axis_name: of the axis; its size divides the batch.

    Returns:
        (parameters, key, batch) → (loss, scalars), parameters and key whole on every device.

    Raises:
        ValueError: no function, no mesh, or an axis that the mesh lacks; when called, no key, or a
            batch that the axis does not divide.

    Example:
        >>> import jax.numpy as jnp
        >>> mesh = Mesh(jax.devices()[:1], ("data",))
        >>> part = lambda params, key, batch: (jnp.mean((params * batch["x"]) ** 2), {})
        >>> whole = shard_map_loss(part, mesh, "data")
        >>> gradient = jax.grad(whole, has_aux=True)
        >>> float(gradient(1.5, jax.random.key(0), {"x": jnp.array([1.0, 2.0])})[0])
        7.5
    """
    expect_callable("loss", loss, "(parameters, key, part of the batch) → (loss, scalars)")
    expect_name("axis_name", axis_name, expect("mesh", mesh, Mesh).axis_names)

    def on_one(params: Any, key: jax.Array, batch: Mapping[str, jax.Array]) -> Any:
        return jax.lax.pmean(_with_device_keys(loss, axis_name)(params, key, batch), axis_name)

    whole, split = PartitionSpec(), PartitionSpec(axis_name)
    over_all = jax.shard_map(on_one, mesh=mesh, in_specs=(whole, whole, split), out_specs=whole)

    def checked(params: Any, key: jax.Array, batch: Mapping[str, jax.Array]) -> Any:
        arrays = {name: column(batch, name) for name in expect_names("batch", batch, "x")}
        parts = mesh.shape[axis_name]
        for name, x in arrays.items():
            if x.shape[0] % parts:
                raise errors.invalid(
                    f"batch[{name!r}]",
                    f"{x.shape[0]} examples",
                    f"a multiple of {parts}, the devices along {axis_name!r}",
                    "change the batch size",
                )
        return over_all(params, as_key("key", key), arrays)

    return checked


def pmap_gradient(loss: PartLoss, axis_name: str) -> Callable[..., tuple[Any, Any]]:
    """The gradient of a loss of the whole batch, to be called inside of `jax.pmap`.

    It is for code that keeps a replica of its state on every device; JAX itself advises `jit` and
    `shard_map` for new code.

    Args:
        loss: of one part.
        axis_name: of `pmap`.

    Returns:
        (parameters, key, part of the batch) → (gradient, scalars), both means over the devices. The
        key is the same on all; each folds its place into it.

    Raises:
        ValueError: no function; when called, no key.

    Example:
        >>> import jax.numpy as jnp
        >>> part = lambda params, key, batch: (jnp.mean((params * batch["x"]) ** 2), {})
        >>> gradient = jax.pmap(pmap_gradient(part, "data"), "data", in_axes=(None, None, 0))
        >>> x = jnp.array([[1.0, 2.0]])
        >>> gradient(1.5, jax.random.key(0), {"x": x})[0].tolist()
        [7.5]
    """
    expect_callable("loss", loss, "(parameters, key, part of the batch) → (loss, scalars)")

    def gradient(params: Any, key: jax.Array, batch: Mapping[str, jax.Array]) -> tuple[Any, Any]:
        part = jax.grad(_with_device_keys(loss, axis_name), has_aux=True)(params, key, batch)
        return jax.lax.pmean(part, axis_name)

    return gradient


def _with_device_keys(loss: PartLoss, axis_name: str) -> PartLoss:
    def with_device_key(params: Any, key: jax.Array, batch: Mapping[str, jax.Array]) -> Any:
        place = jax.lax.axis_index(axis_name)
        return loss(params, jax.random.fold_in(as_key("key", key), place), batch)

    return with_device_key
