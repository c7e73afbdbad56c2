"""Trains a model: --config=configs/digits.py --workdir=W [--config.x=y].

The exit status is 75 when the run was stopped and has saved: run the same command again.
"""

import sys

from absl import app, flags
from ml_collections import config_flags

from mmdiffusion_jax import apps, experiment

_CONFIG = config_flags.DEFINE_config_file("config", None, "The experiment.", lock_config=True)
flags.mark_flag_as_required("config")
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Where the run is kept; run again to go on.", required=True
)
_PROFILE = flags.DEFINE_string("profile", None, "FIRST:LAST step to record for XProf.")
_WANDB = apps.define_wandb_flag()
_PROCESSES = apps.define_distributed_flags()


def main(argv: list[str]) -> None:
    """Parses the flags and trains."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    window = apps.parse_window(_PROFILE.value)
    apps.join(_PROCESSES())
    with _WANDB(_CONFIG.value):
        state = apps.train(_CONFIG.value, _WORKDIR.value, window)
    if int(state.step) < experiment.read_settings(_CONFIG.value).training.num_steps:
        sys.exit(apps.RESTART_CODE)


if __name__ == "__main__":
    apps.start(main)
