"""The benchmarks on a GPU: the published DiTs in bfloat16, and the share of its peak in use."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.speed import sizes
from benchmarks.speed.harness import Pace, Row, Worker, interleave, ratio, spread, workers
from benchmarks.speed.suite import OURS, RIVAL, Benchmark
from mmdiffusion_jax import errors
from mmdiffusion_jax.training import speed

# Both sides are on the device at once, so neither may take all of its memory.
_ENVIRONMENT = {
    "JAX_PLATFORMS": "",
    "XLA_FLAGS": "",
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    "JAX_ENABLE_COMPILATION_CACHE": "false",
}
_TRAINING = 3
"""A training step takes the operations of three forward passes: forward, and backward twice."""


def peak_flops(device: str) -> float:
    """The peak of a device in bfloat16.

    Args:
        device: its name, such as "NVIDIA H100 80GB HBM3".

    Raises:
        ValueError: a device whose peak is not known.
    """
    if (peak := speed.peak_flops(device)) is not None:
        return peak
    raise errors.invalid(
        "device", repr(device), f"one of {', '.join(speed.PEAK_FLOPS)}", "add its peak"
    )


def model_flops_utilisation(flops: float, seconds: float, peak: float) -> float:
    """The share of the peak that goes into the model's own products: flops / (seconds · peak).

    Args:
        flops: operations of a step by formula, nothing that is computed anew among them.
        seconds: of a step.
        peak: FLOP/s.
    """
    return flops / (seconds * peak)


def benchmarks(devices: Sequence[str]) -> dict[str, Benchmark]:
    """The benchmarks of the first of these devices; none where there is none."""
    if not devices:
        return {}
    found = {}
    for name, size in sizes.GPU_DITS.items():
        for arm, row in (
            ("train", "train_step"),
            ("forward", "forward"),
            ("sampler", "sampler_step"),
        ):
            full = f"{name}_{row}_over_torch_compiled"
            goal = 1.2 if arm == "train" else None
            title = f"{row.replace('_', ' ')} of {name}, bfloat16, over compiled PyTorch"
            found[full] = Benchmark({full: goal}, _pair(full, arm, size), title)
        full = f"{name}_model_flops_utilisation"
        title = f"share of the peak of {devices[0]} in a train step of {name}"
        found[full] = Benchmark({full: None}, _utilisation(full, size, devices[0]), title)
    return found


def _pair(name: str, arm: str, size: Mapping[str, Any]) -> Callable[[Pace], dict[str, Row]]:
    def measure(pace: Pace) -> dict[str, Row]:
        ours = (f"{OURS}:arms", {"size": size}, _ENVIRONMENT)
        options = {"size": size, "compiled": True, "device": "cuda"}
        theirs = (f"{RIVAL}:arms", options, _ENVIRONMENT)
        with workers(ours=ours, torch=theirs) as sides:
            measured = interleave({side: (worker, arm) for side, worker in sides.items()}, pace)
        return {name: ratio("ours", "torch", measured, size=size)}

    return measure


def _utilisation(
    name: str, size: Mapping[str, Any], device: str
) -> Callable[[Pace], dict[str, Row]]:
    def measure(pace: Pace) -> dict[str, Row]:
        with Worker(f"{OURS}:counted", {"size": size}, _ENVIRONMENT) as worker:
            forward = worker.run("analytic").value
        with Worker(f"{OURS}:arms", {"size": size}, _ENVIRONMENT) as worker:
            clock, _ = interleave({"ours": (worker, "train")}, pace)
        flops, peak = _TRAINING * forward, peak_flops(device)
        shares = sorted(model_flops_utilisation(flops, s, peak) for s in clock["ours"])
        details = {"flops": flops, "peak": peak, "size": size, "rounds": len(shares)}
        return {name: Row(statistics.median(shares), spread(shares), details)}

    return measure
