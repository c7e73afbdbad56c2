"""State, sharding, optimiser, step, the one loop, checkpoints and metric writers."""

from mmdiffusion_jax.training.checkpoints import Checkpoints, Restored
from mmdiffusion_jax.training.loop import TrainingOptions, train
from mmdiffusion_jax.training.sharding import batch_sharding, make_mesh, replicated
from mmdiffusion_jax.training.state import TrainState, create_state
from mmdiffusion_jax.training.step import make_optimiser, make_step
from mmdiffusion_jax.training.writers import MetricWriter, read_metrics

__all__ = [
    "Checkpoints",
    "MetricWriter",
    "Restored",
    "TrainState",
    "TrainingOptions",
    "batch_sharding",
    "create_state",
    "make_mesh",
    "make_optimiser",
    "make_step",
    "read_metrics",
    "replicated",
    "train",
]
