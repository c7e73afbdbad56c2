"""What the launch scripts run: train, sample, evaluate and compare in a workdir."""

from mmdiffusion_jax.run.compare import compare
from mmdiffusion_jax.run.evaluate import evaluate
from mmdiffusion_jax.run.requests import parse_given, parse_interval, parse_scales
from mmdiffusion_jax.run.sample import sample
from mmdiffusion_jax.run.start import start
from mmdiffusion_jax.run.train import load, make_step_and_state, train

__all__ = [
    "compare",
    "evaluate",
    "load",
    "make_step_and_state",
    "parse_given",
    "parse_interval",
    "parse_scales",
    "sample",
    "start",
    "train",
]
