"""What the launch scripts run: train, sample, evaluate and compare in a workdir."""

from mmdiffusion_jax.run.compare import compare
from mmdiffusion_jax.run.evaluate import evaluate
from mmdiffusion_jax.run.options import define_sampling_flags
from mmdiffusion_jax.run.sample import sample
from mmdiffusion_jax.run.start import start
from mmdiffusion_jax.run.train import load, make_step_and_state, train

__all__ = [
    "compare",
    "define_sampling_flags",
    "evaluate",
    "load",
    "make_step_and_state",
    "sample",
    "start",
    "train",
]
