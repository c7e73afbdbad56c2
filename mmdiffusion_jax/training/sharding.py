"""The device mesh: the batch is split over its data axis, the state is on every device."""

from collections.abc import Sequence

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from mmdiffusion_jax import errors

DATA_AXIS = "data"


def make_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A one-dimensional mesh over the devices.

    Args:
        devices: left out, all of them.

    Example:
        >>> make_mesh().axis_names
        ('data',)
    """
    devices = list(devices or jax.devices())
    return jax.make_mesh(
        (len(devices),), (DATA_AXIS,), axis_types=(AxisType.Auto,), devices=devices
    )


def replicated(mesh: Mesh) -> NamedSharding:
    """The layout of what every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh, batch_size: int) -> NamedSharding:
    """The layout of a batch: its leading axis over the data axis.

    Args:
        mesh: from `make_mesh`.
        batch_size: of all devices together.

    Raises:
        ValueError: when the devices do not divide the batch.
    """
    devices = mesh.shape[DATA_AXIS]
    if batch_size % devices:
        raise ValueError(
            errors.message(
                "batch_size", batch_size, f"a multiple of the {devices} devices", "change it"
            )
        )
    return NamedSharding(mesh, PartitionSpec(DATA_AXIS))
