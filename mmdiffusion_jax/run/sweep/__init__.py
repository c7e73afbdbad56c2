"""Sweeps: many runs of one config, each with keys of its own."""

from mmdiffusion_jax.run.sweep.array import write_array
from mmdiffusion_jax.run.sweep.expand import SweepRun, expand_sweep
from mmdiffusion_jax.run.sweep.pool import sweep_commands, train_sweep
from mmdiffusion_jax.run.sweep.table import collect_sweep

__all__ = [
    "SweepRun",
    "collect_sweep",
    "expand_sweep",
    "sweep_commands",
    "train_sweep",
    "write_array",
]
