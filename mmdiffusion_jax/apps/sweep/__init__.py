"""Sweeps: many runs of one config, each with keys of its own."""

from mmdiffusion_jax.apps.sweep.array import write_array
from mmdiffusion_jax.apps.sweep.expand import SweepRun, expand_sweep
from mmdiffusion_jax.apps.sweep.pool import sweep_commands, train_sweep
from mmdiffusion_jax.apps.sweep.table import collect_sweep

__all__ = [
    "SweepRun",
    "collect_sweep",
    "expand_sweep",
    "sweep_commands",
    "train_sweep",
    "write_array",
]
