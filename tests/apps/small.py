"""The launch scripts in processes of their own, and a run small enough for tests."""

import os
import subprocess
import tempfile
from pathlib import Path

import jax

from configs import smoke
from tests.processes import Running

ROOT = Path(__file__).resolve().parents[2]
SMALL = (
    "--config=configs/smoke.py",
    "--config.backbone.width=16",
    "--config.backbone.depth=1",
    "--config.process.num_steps=8",
    "--config.training.num_steps=8",
    "--config.training.warmup_steps=2",
    "--config.training.log_every=2",
    "--config.training.eval_every=4",
    "--config.training.sample_every=0",
    "--config.training.checkpoint_every=2",
    "--config.training.keep=9",
    "--config.evaluation.num_samples=20",
    "--config.evaluation.num_scored=20",
)


def run_python(script, *arguments, devices=1):
    """Runs a script of this project in a process of its own, on so many simulated devices."""
    with tempfile.TemporaryDirectory() as folder:
        out, errors = Path(folder, "out"), Path(folder, "errors")
        run = Running(script, *arguments, log=out, errors=errors, prepare=(prepare, devices))
        code = run.wait(600)
        return subprocess.CompletedProcess(
            [script, *arguments], code, out.read_text(), errors.read_text()
        )


def launch(script, *arguments, **options):
    """Runs a launch script."""
    return run_python(f"launch/{script}.py", *arguments, **options)


def smoke_config():
    """The config of configs/smoke.py, with a smaller network and fewer steps."""
    config = smoke.get_config()
    config.process.num_steps = 8
    config.backbone.width, config.backbone.depth = 16, 1
    return config


def prepare(devices):
    """Of a process that was forked: its folder and its devices."""
    os.chdir(ROOT)
    # Its variable has been read when JAX was imported, before the fork.
    jax.config.update("jax_num_cpu_devices", devices)
