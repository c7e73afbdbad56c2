"""The launch scripts in processes of their own, and a run small enough for tests."""

import os
import subprocess
import sys
from pathlib import Path

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


def launch(script, *arguments, **environment):
    return subprocess.run(
        [sys.executable, f"launch/{script}.py", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "", **environment},
        capture_output=True,
        text=True,
    )
