"""Measures the speed of a run, its share of the peak, and the time it waits for data."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax

from mmdiffusion_jax import files
from mmdiffusion_jax.training.flops import program_flops

PEAK_FLOPS: Mapping[str, float] = {
    "A100": 312e12,
    "A10G": 70e12,
    "A10": 125e12,
    "A30": 165e12,
    "A40": 149.7e12,
    "B200": 2250e12,
    "GH200": 989.4e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989.4e12,
    "H200": 989.4e12,
    "L4": 121e12,
    "L40S": 362e12,
    "L40": 181e12,
    "RTX 3090": 71e12,
    "RTX 4090": 165.2e12,
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5e": 197e12,
    "TPU v5p": 459e12,
    "TPU v5": 459e12,
    "TPU v6 lite": 918e12,
    "TPU v6e": 918e12,
}
"""Dense bfloat16 FLOP/s with sums in float32, by words of the device's name (data sheets)."""


def peak_flops(device_kind: str) -> float | None:
    """The peak of a device, FLOP/s in bfloat16; None where it is not known.

    The longest entry whose words stand in the name counts.

    Args:
        device_kind: such as "NVIDIA H100 80GB HBM3" or "TPU v5 lite".

    Example:
        >>> peak_flops("NVIDIA H100 80GB HBM3") / 1e12
        989.4
        >>> peak_flops("TPU v5 lite") / 1e12
        197.0
        >>> peak_flops("cpu") is None
        True
    """
    words = device_kind.replace("-", " ").split()
    for name in sorted(PEAK_FLOPS, key=len, reverse=True):
        parts = name.split()
        if any(words[start : start + len(parts)] == parts for start in range(len(words))):
            return PEAK_FLOPS[name]
    return None


@dataclasses.dataclass(frozen=True)
class StepCost:
    """The cost of one step on one device, by its compiled program.

    Attributes:
        flops: operations, recomputed ones included, as `program_flops` counts them.
        memory_bytes: state, batch and intermediate arrays together.
        compile_seconds: time to compile it, or to load it from the cache.
    """

    flops: float
    memory_bytes: float
    compile_seconds: float


def compile_step(step: Any, *arguments: Any) -> tuple[Any, StepCost]:
    """Compiles a jitted function for its arguments: (the program, its cost).

    Example:
        >>> import jax.numpy as jnp
        >>> compiled, cost = compile_step(jax.jit(lambda w, x: x @ w), jnp.ones((4, 4)),
        ...                               jnp.ones((2, 4)))
        >>> compiled(jnp.ones((4, 4)), jnp.ones((2, 4))).shape, cost.flops >= 2 * 2 * 4 * 4
        ((2, 4), True)
    """
    begun = time.monotonic()
    traced = step.trace(*arguments)
    compiled = traced.lower().compile()
    seconds = time.monotonic() - begun
    layouts = jax.tree.leaves(compiled.input_shardings)
    num_devices = max(layout.num_devices for layout in layouts)
    sizes = compiled.memory_analysis()
    memory = 0.0
    if sizes is not None:
        memory = (
            sizes.argument_size_in_bytes
            + sizes.temp_size_in_bytes
            + sizes.output_size_in_bytes
            - sizes.alias_size_in_bytes
        )
    return compiled, StepCost(program_flops(traced, compiled, num_devices), float(memory), seconds)


class Stopwatch:
    """Measures a stretch of steps: how many a second, and the share spent waiting for data.

    Example:
        >>> watch = Stopwatch(StepCost(0.0, 0.0, 0.0), batch_size=8)
        >>> watch.fetch(iter([5]))
        5
        >>> watch.count(jax.numpy.zeros(()))
        >>> sorted(watch.lap())[:2]
        ['speed/examples_per_second', 'speed/input_stall_share']
    """

    def __init__(self, cost: StepCost, batch_size: int) -> None:
        self._cost, self._batch_size = cost, batch_size
        self._device = jax.local_devices()[0]
        self._last: Any = None
        self._restart()

    def fetch(self, batches: Iterator[Any]) -> Any:
        """The next batch; waiting for it counts as a stall if it outlasts the step under way."""
        begun = time.monotonic()
        batch = next(batches)
        if self._last is None or self._last.is_ready():
            self._waited += time.monotonic() - begun
        return batch

    def count(self, result: jax.Array) -> None:
        """Counts a step that has begun; `result` is an array that it computes."""
        self._last = result
        self._steps += 1

    def pause(self, seconds: float) -> None:
        """Leaves out seconds that were not spent on steps."""
        self._begun += seconds

    def lap(self) -> dict[str, float]:
        """The figures since the last lap; the next lap begins.

        Returns:
            `speed/steps_per_second`, `speed/examples_per_second`, `speed/input_stall_share` (of
            the time of the steps), `speed/memory_bytes` of a device, and, where the device's peak
            is known, `speed/model_flops_utilisation`: counted FLOPs over the peak in bfloat16.
        """
        seconds = max(time.monotonic() - self._begun, 1e-9)
        rate = self._steps / seconds
        measured = self._device.memory_stats() or {}
        figures = {
            "speed/steps_per_second": rate,
            "speed/examples_per_second": rate * self._batch_size,
            "speed/input_stall_share": min(self._waited / seconds, 1.0),
            "speed/memory_bytes": float(measured.get("peak_bytes_in_use", self._cost.memory_bytes)),
        }
        peak = peak_flops(self._device.device_kind)
        if peak is not None:
            figures["speed/model_flops_utilisation"] = self._cost.flops * rate / peak
        self._restart()
        return figures

    def _restart(self) -> None:
        self._begun, self._waited, self._steps = time.monotonic(), 0.0, 0


class ProfileWindow:
    """Records a stretch of steps for XProf.

    Args:
        folder: where the trace goes; its viewer is `xprof --logdir=FOLDER`.
        steps: (first, last) to record, or None for none.

    Example:
        >>> window = ProfileWindow("unused", None)
        >>> window.before(1)
        >>> window.after(1, jax.numpy.zeros(()))
    """

    def __init__(self, folder: str | Path, steps: tuple[int, int] | None) -> None:
        self._folder, self._steps, self._open = folder, steps, False

    def before(self, step: int) -> None:
        """Begins the recording where the step is the first of the window, or lies within it."""
        if self._steps and not self._open and self._steps[0] <= step <= self._steps[1]:
            self._copied = files.Copied(files.to_path(self._folder))
            jax.profiler.start_trace(str(self._copied.disk))
            self._open = True

    def after(self, step: int, result: Any) -> None:
        """Ends the recording with the last step of the window, once its result is there."""
        if self._open and self._steps and step >= self._steps[1]:
            jax.block_until_ready(result)
            self.close()

    def close(self) -> None:
        """Ends the recording if one is going on."""
        if self._open:
            self._open = False
            with contextlib.closing(self._copied):
                jax.profiler.stop_trace()
