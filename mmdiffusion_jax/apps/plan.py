"""Plans a run on devices that need not be at hand: operations, memory, bytes sent."""

import dataclasses
import math
from typing import Any

import jax
import numpy as np
from jax.sharding import AbstractMesh
from ml_collections import ConfigDict

from mmdiffusion_jax import errors, experiment, ranges, training
from mmdiffusion_jax.training import sharding


@dataclasses.dataclass(frozen=True)
class Plan:
    """The cost of a training step; figures of a device hold for each of them.

    Attributes:
        devices: along the axes data, fsdp and tensor.
        batch_size: of all devices together.
        parameters: how many the model has.
        flops: of one step of all devices together, as XLA counts them before it optimises:
            products, sums and elementwise work; with `scan_layers` the products alone.
        state_bytes: of a device: parameters, their averages, the optimiser's state.
        checkpoint_bytes: the same of the whole run, each value once, as a checkpoint has it.
        gathered_bytes: of a device: the parameters in use, where fsdp splits the stored ones.
        gradient_bytes: of a device, before they are added up.
        activation_bytes: of a device: what the forward pass keeps for the backward pass, every
            elementwise result included; a compiler saves a fifth or more of it by fusion.
        batch_bytes: of a device: two batches that are being loaded and one in use.
        sent_bytes: of a device: the ring sum of the gradients over its replicas, 2 b (n − 1)/n for
            each part of a batch that is gone through in parts, and gathering parameters,
            b (n − 1)/n. Sums of activations over tensor are left out.
    """

    devices: tuple[int, int, int]
    batch_size: int
    parameters: int
    flops: float
    state_bytes: int
    checkpoint_bytes: int
    gathered_bytes: int
    gradient_bytes: int
    activation_bytes: int
    batch_bytes: int
    sent_bytes: float

    @property
    def memory_bytes(self) -> int:
        """The memory that a device needs in all."""
        parts = (self.state_bytes, self.gathered_bytes, self.gradient_bytes)
        return sum(parts) + self.activation_bytes + self.batch_bytes

    def seconds(self, peak: float, utilisation: float, bandwidth: float) -> tuple[float, float]:
        """The time of a step: (computing, sending); a good compiler does much of both at once.

        Args:
            peak: FLOP/s of a device.
            utilisation: the share of it that is reached.
            bandwidth: bytes a second that a device sends.

        Raises:
            ValueError: numbers that are not above 0, or a share above 1.
        """
        for name, value, most in (
            ("peak", peak, math.inf),
            ("utilisation", utilisation, 1.0),
            ("bandwidth", bandwidth, math.inf),
        ):
            ranges.check_real(name, value, 0, most, "(]")
        computing = self.flops / (math.prod(self.devices) * peak * utilisation)
        return computing, self.sent_bytes / bandwidth

    def table(self) -> str:
        """The plan as lines of text."""
        return _lines(
            ("devices (data, fsdp, tensor)", ", ".join(map(str, self.devices))),
            ("batch of all devices", f"{self.batch_size:,}"),
            ("parameters", f"{self.parameters:,}"),
            ("FLOP a step, all devices", f"{self.flops:.3g}"),
            ("a checkpoint", _size(self.checkpoint_bytes)),
            ("a device's state", _size(self.state_bytes)),
            ("  parameters gathered", _size(self.gathered_bytes)),
            ("  gradients", _size(self.gradient_bytes)),
            ("  kept for the backward pass", _size(self.activation_bytes)),
            ("  batches", _size(self.batch_bytes)),
            ("  all together", _size(self.memory_bytes)),
            ("a device sends a step", _size(self.sent_bytes)),
        )

    def time_table(self, peak: float, utilisation: float, bandwidth: float, steps: int) -> str:
        """The times of `seconds` as lines of text, for one step and for so many."""
        computing, sending = self.seconds(peak, utilisation, bandwidth)
        hours = [
            steps * seconds / 3600 for seconds in (max(computing, sending), computing + sending)
        ]
        return _lines(
            ("a step computes", f"{computing:.3g} s at {utilisation:.0%} of {peak:.3g} FLOP/s"),
            ("  and sends", f"{sending:.3g} s at {bandwidth:.3g} bytes a second"),
            (f"{steps:,} steps", f"{hours[0]:.3g} to {hours[1]:.3g} hours"),
        )

    def checkpoint_seconds(self, bandwidth: float, hosts: int = 1) -> float:
        """How long a checkpoint is on its way to a disk or a bucket, while the run goes on.

        Every host writes a part of about the same size: Orbax splits what several have alike.

        Args:
            bandwidth: bytes a second that a host writes.
            hosts: how many write at once.

        Raises:
            ValueError: a bandwidth that is not above 0.
        """
        ranges.check_real("store_bandwidth", bandwidth, 0, ends="()")
        return self.checkpoint_bytes / (bandwidth * hosts)


def plan(config: ConfigDict, num_devices: int) -> Plan:
    """Plans a run from shapes alone: nothing is computed, and one CPU is enough.

    Args:
        config: the experiment, with its mesh in `sharding`.
        num_devices: of all processes together.

    Raises:
        ValueError: a bad config, or a mesh or batch that does not go with the devices.

    Example:
        >>> cost = plan(experiment.read_config_file("configs/smoke.py"), 8)
        >>> cost.devices, round(cost.state_bytes / cost.parameters, 2)  # in float32: 4 numbers
        ((8, 1, 1), 16.0)
    """
    ranges.check_whole("devices", num_devices, 1)
    built = experiment.build(config)
    options, steps = built.sharding, built.training
    others = options.fsdp * options.tensor
    data = options.data or num_devices // others
    if data * others != num_devices:
        raise errors.invalid(
            "devices", num_devices, f"a multiple of fsdp × tensor, {others}", "change either"
        )
    replicas = data * options.fsdp
    if steps.batch_size % (replicas * steps.accumulate):
        raise errors.invalid(
            "config.training.batch_size",
            steps.batch_size,
            f"a multiple of {replicas} replicas × {steps.accumulate} parts",
            "change it",
        )
    mesh = AbstractMesh((data, options.fsdp, options.tensor), sharding.AXES)
    params = built.param_shapes
    used = sharding.gathered(training.state_sharding(mesh, params, options))
    whole = _bytes(params, used)
    state = jax.tree.leaves(experiment.abstract_state(built, mesh))
    part = steps.batch_size // (replicas * steps.accumulate)
    batch = _batch(built, part)
    gathered = whole if options.fsdp > 1 else 0
    summed = 2 * whole * (replicas - 1) / replicas * steps.accumulate
    sent = summed + gathered * (options.fsdp - 1) / options.fsdp
    return Plan(
        devices=(data, options.fsdp, options.tensor),
        batch_size=steps.batch_size,
        parameters=sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params)),
        flops=_flops(built, params, batch) * replicas * steps.accumulate,
        state_bytes=_bytes(state, [leaf.sharding for leaf in state]),
        checkpoint_bytes=_bytes(state),
        gathered_bytes=gathered,
        gradient_bytes=whole,
        activation_bytes=_saved_bytes(built, params, batch) // options.tensor,
        batch_bytes=3 * steps.accumulate * _bytes(batch),
        sent_bytes=sent,
    )


def _lines(*rows: tuple[str, str]) -> str:
    return "\n".join(f"{name:<32}{value}" for name, value in rows)


def _size(count: float) -> str:
    return f"{count / 1e9:.3g} GB" if count >= 1e9 else f"{count / 1e6:.3g} MB"


def _batch(built: experiment.Experiment, size: int) -> dict[str, jax.ShapeDtypeStruct]:
    """The shapes and dtypes of a batch as it is loaded: pixels are bytes."""
    shapes = {}
    for name, modality in built.model.modalities.items():
        shape, kind = modality.columns
        dtype: Any = np.float32
        if kind == "integer":
            dtype = np.uint8 if len(shape) > 1 else np.int32
        shapes[name] = jax.ShapeDtypeStruct((size, *shape), dtype)
    return shapes


def _bytes(tree: Any, layout: Any = None) -> int:
    """The bytes of arrays, or of one device's part of them."""
    leaves = jax.tree.leaves(tree)
    layouts = [None] * len(leaves) if layout is None else jax.tree.leaves(layout)
    return sum(
        math.prod(leaf.shape if one is None else one.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf, one in zip(leaves, layouts)
    )


def _flops(built: experiment.Experiment, params: Any, batch: Any) -> float:
    """FLOPs of the loss and its gradient, of one part of a batch."""
    gradient = jax.jit(jax.grad(lambda p, b: built.loss(p, jax.random.key(0), b)[0]))
    traced = gradient.trace(params, batch)
    return training.program_flops(traced, traced.lower(), num_devices=1)


def _saved_bytes(built: experiment.Experiment, params: Any, batch: Any) -> int:
    """Bytes that the forward pass keeps for the backward pass, beside parameters and batch."""

    def forward(params: Any, batch: Any) -> Any:
        return jax.vjp(lambda p: built.loss(p, jax.random.key(0), batch)[0], params)[1]

    # The leaves of a transposed function are the arrays that it keeps.
    saved = jax.eval_shape(forward, params, batch)
    ours = {(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves((params, batch))}
    return sum(
        math.prod(leaf.shape) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(saved)
        if (leaf.shape, leaf.dtype) not in ours
    )
