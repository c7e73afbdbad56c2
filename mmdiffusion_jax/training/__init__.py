"""State, sharding, optimiser, step, the one loop, checkpoints and metric writers."""

from mmdiffusion_jax.training.best import BestCheckpoint
from mmdiffusion_jax.training.checkpoints import CheckpointError, Checkpoints, Restored
from mmdiffusion_jax.training.export import read_safetensors, tree_digest, write_safetensors
from mmdiffusion_jax.training.flops import product_flops, program_flops
from mmdiffusion_jax.training.garbage import rare_collections
from mmdiffusion_jax.training.leaves import OtherStateError
from mmdiffusion_jax.training.loop import Monitor, train
from mmdiffusion_jax.training.optimiser import make_optimiser
from mmdiffusion_jax.training.options import TrainingOptions
from mmdiffusion_jax.training.sharding import (
    ShardingOptions,
    batch_sharding,
    local_rows,
    make_mesh,
    state_sharding,
)
from mmdiffusion_jax.training.speed import compile_step, peak_flops
from mmdiffusion_jax.training.state import TrainState, abstract_state, create_state
from mmdiffusion_jax.training.step import make_step, take_step
from mmdiffusion_jax.training.wandb_mirror import WandbMirror
from mmdiffusion_jax.training.writers import MetricWriter, mirrored, read_metrics

__all__ = [
    "BestCheckpoint",
    "CheckpointError",
    "Checkpoints",
    "MetricWriter",
    "Monitor",
    "OtherStateError",
    "Restored",
    "ShardingOptions",
    "TrainState",
    "TrainingOptions",
    "WandbMirror",
    "abstract_state",
    "batch_sharding",
    "compile_step",
    "create_state",
    "local_rows",
    "make_mesh",
    "make_optimiser",
    "make_step",
    "mirrored",
    "peak_flops",
    "product_flops",
    "program_flops",
    "rare_collections",
    "read_metrics",
    "read_safetensors",
    "state_sharding",
    "take_step",
    "train",
    "tree_digest",
    "write_safetensors",
]
