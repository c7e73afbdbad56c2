"""How arrays are split over devices: a mesh of three axes, and rules from a leaf's path to axes.

The batch is split over `data` and `fsdp` together. A rule may split a matrix over `tensor`; large
arrays are split over `fsdp` as well, and gathered where they are used (Rajbhandari et al. 2020,
"ZeRO").
"""

import dataclasses
import math
import re
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from mmdiffusion_jax import errors, ranges

DATA, FSDP, TENSOR = "data", "fsdp", "tensor"
AXES = (DATA, FSDP, TENSOR)

Rule = tuple[str, tuple[str | None, ...]]
"""(regular expression found in a leaf's path, mesh axes of its last dimensions)."""

TENSOR_RULES: tuple[Rule, ...] = (
    (r"(query|key|value|hidden|conv_1)/kernel$", (None, TENSOR)),
    (r"(query|key|value|hidden|conv_1)/bias$", (TENSOR,)),
    (r"(out|narrow|conv_2)/kernel$", (TENSOR, None)),
)
"""What the tensor axis splits: a layer's outputs, and the inputs of the layer that follows it.

So a pair of layers needs one sum over the axis a pass (Shoeybi et al. 2019, "Megatron-LM").
"""


@dataclasses.dataclass(frozen=True)
class ShardingOptions:
    """The mesh of devices, and which arrays are split over it.

    Attributes:
        data: devices along `data`; 0 takes all that the other axes leave.
        fsdp: devices that share the parameters, the optimiser's state and the average.
        tensor: devices that share the matrices of `TENSOR_RULES`.
        rules: (regular expression, axes) pairs that come before `TENSOR_RULES`; the first that is
            found in a leaf's path decides, and `fsdp` is not added to it.
        min_size: leaves with fewer elements are whole on every device unless one of `rules` says
            otherwise.

    Raises:
        ValueError: a size out of its range, or a rule with an unknown axis or a bad expression.

    Example:
        >>> ShardingOptions(fsdp=4).tensor
        1
    """

    data: int = 0
    fsdp: int = 1
    tensor: int = 1
    rules: tuple[Rule, ...] = ()
    min_size: int = 2**14

    def __post_init__(self) -> None:
        for name, least in ((DATA, 0), (FSDP, 1), (TENSOR, 1), ("min_size", 1)):
            ranges.check_whole(f"sharding.{name}", getattr(self, name), least)
        for rule in self.rules:
            try:
                pattern, axes = rule
                re.compile(pattern)
            except (TypeError, ValueError, re.error) as error:
                raise errors.invalid(
                    "sharding.rules",
                    rule,
                    "pairs of a regular expression and a tuple of axes",
                    f"correct it ({error})",
                ) from error
            for axis in axes:
                if axis is not None and axis not in AXES:
                    raise errors.unknown("sharding.rules", axis, AXES)


def make_mesh(
    options: ShardingOptions | None = None, devices: Sequence[jax.Device] | None = None
) -> Mesh:
    """A mesh of the axes data, fsdp and tensor.

    Args:
        options: left out, all devices are along `data`.
        devices: left out, all of them, of all processes.

    Raises:
        ValueError: axes whose product is not the number of devices.

    Example:
        >>> make_mesh().axis_names
        ('data', 'fsdp', 'tensor')
    """
    options = options or ShardingOptions()
    devices = list(devices or jax.devices())
    others = options.fsdp * options.tensor
    data = options.data or len(devices) // others
    if data * others != len(devices):
        sizes = f"data {options.data}, fsdp {options.fsdp}, tensor {options.tensor}"
        raise errors.invalid(
            "sharding",
            sizes,
            f"sizes whose product is the number of devices, {len(devices)}",
            "change one, or let data be 0 for what the others leave",
        )
    # Auto: Flax's layers do not know explicit axes.
    return jax.make_mesh(
        (data, options.fsdp, options.tensor),
        AXES,
        axis_types=(AxisType.Auto,) * len(AXES),
        devices=devices,
    )


def batch_sharding(mesh: Mesh, batch_size: int) -> NamedSharding:
    """The layout of the batch of all devices: its leading axis over `data` and `fsdp`.

    Raises:
        ValueError: when the devices along these axes do not divide the batch.
    """
    devices = mesh.shape[DATA] * mesh.shape[FSDP]
    if batch_size % devices:
        raise errors.invalid(
            "batch_size",
            batch_size,
            f"a multiple of the {devices} devices along data and fsdp",
            "change it",
        )
    return NamedSharding(mesh, PartitionSpec((DATA, FSDP)))


def state_sharding(
    mesh: Mesh | AbstractMesh, state: Any, options: ShardingOptions | None = None
) -> Any:
    """The layout of a pytree: of parameters, an optimiser's state, an average, or all in one.

    A leaf's path, its keys joined by "/", is held against the rules; so the moments of an optimiser
    lie as the parameters they belong to.

    Args:
        mesh: from `make_mesh`, or an `AbstractMesh` of its axes.
        state: arrays or `jax.ShapeDtypeStruct`.
        options: left out, nothing but `TENSOR_RULES`.

    Returns:
        The same tree of `NamedSharding`.

    Raises:
        ValueError: one of the options' own rules that does not fit a leaf it is found in.

    Example:
        >>> mesh = make_mesh()
        >>> layout = state_sharding(mesh, {"hidden": {"kernel": jax.numpy.zeros((256, 256))}})
        >>> tuple(layout["hidden"]["kernel"].spec)
        (None, 'tensor')
    """
    options = options or ShardingOptions()

    def place(path: Any, leaf: Any) -> NamedSharding:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        return NamedSharding(mesh, PartitionSpec(*_axes_of(name, leaf.shape, mesh, options)))

    return jax.tree_util.tree_map_with_path(place, state)


def _axes_of(
    name: str, shape: tuple[int, ...], mesh: Mesh | AbstractMesh, options: ShardingOptions
) -> list[str | None]:
    for pattern, axes in options.rules:
        if re.search(pattern, name):
            if not _fits(axes, shape, mesh):
                raise errors.invalid(
                    "sharding.rules",
                    f"{tuple(axes)} for {pattern!r}, found in {name!r} of shape {shape}",
                    f"axes that divide its last dimensions on a mesh of {dict(mesh.shape)}",
                    "make the expression narrower or leave the axis out",
                )
            return [*[None] * (len(shape) - len(axes)), *axes]
    placed: list[str | None] = [None] * len(shape)
    if math.prod(shape) < options.min_size:
        return placed
    for pattern, axes in TENSOR_RULES:
        if re.search(pattern, name) and _fits(axes, shape, mesh):
            placed[len(shape) - len(axes) :] = axes
            break
    size = mesh.shape[FSDP]
    free = [d for d, axis in enumerate(placed) if axis is None and shape[d] % size == 0]
    if size > 1 and free:
        placed[max(free, key=lambda d: shape[d])] = FSDP
    return placed


def _fits(axes: Sequence[str | None], shape: tuple[int, ...], mesh: Mesh | AbstractMesh) -> bool:
    """Whether the axes divide the last dimensions of a shape."""
    if len(axes) > len(shape):
        return False
    last = shape[len(shape) - len(axes) :]
    return all(axis is None or side % mesh.shape[axis] == 0 for axis, side in zip(axes, last))


def gathered(layout: Any) -> Any:
    """The layout of parameters in use: as stored, but whole along `fsdp`.

    Example:
        >>> mesh = make_mesh()
        >>> stored = NamedSharding(mesh, PartitionSpec(FSDP, TENSOR))
        >>> tuple(gathered({"w": stored})["w"].spec)
        (None, 'tensor')
    """

    def whole(stored: NamedSharding) -> NamedSharding:
        axes = (None if axis == FSDP else axis for axis in stored.spec)
        return NamedSharding(stored.mesh, PartitionSpec(*axes))

    return jax.tree.map(whole, layout)


def local_rows(sharding: NamedSharding, batch_size: int) -> np.ndarray:
    """The rows of the batch of all devices that those of this process hold.

    Returns:
        (rows,) in rising order. Processes whose devices are apart along `tensor` alone hold the
        same rows; otherwise each row is held by one process.

    Example:
        >>> local_rows(batch_sharding(make_mesh(), 4), 4).tolist()
        [0, 1, 2, 3]
    """
    slices = sharding.addressable_devices_indices_map((batch_size,)).values()
    return np.unique(np.concatenate([np.arange(batch_size)[rows] for rows in slices]))


def on_this_process(tree: Any) -> Any:
    """A tree whose arrays this process can read whole; all processes call it together.

    In a run of one process it is the tree itself. Otherwise each process gets copies on its first
    device of arrays in any layout over all devices.

    Example:
        >>> on_this_process({"w": jax.numpy.ones(2)})["w"].tolist()
        [1.0, 1.0]
    """
    if jax.process_count() == 1:
        return tree
    mesh = jax.tree.leaves(tree)[0].sharding.mesh
    whole = jax.jit(lambda x: x, out_shardings=NamedSharding(mesh, PartitionSpec()))(tree)
    return jax.tree.map(lambda x: x.addressable_data(0), whole)
