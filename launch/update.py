"""Trains a successor: --config=configs/graceful_update.py --workdir=W --from=D [--config.x=y].

--from is the workdir of what is in use; give it once for each generation whose latents are still
stored, the oldest first. [--ensemble=E …] [--config.graceful.x=y] [--config.x=y]. The exit status
is 75 when the run was stopped and has saved: run the same command again.
`launch/compare_update.py` says what the update would do.
"""

import sys

from absl import app, flags
from ml_collections import config_flags

from mmdiffusion_jax import apps

_CONFIG = config_flags.DEFINE_config_file("config", None, "The successor.", lock_config=True)
flags.mark_flag_as_required("config")
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Where the successor is kept; run again to go on.", required=True
)
_FROM = flags.DEFINE_multi_string("from", None, "Workdir of what is in use.", required=True)
_ENSEMBLE = flags.DEFINE_multi_string("ensemble", [], "Workdirs whose decisions are imitated.")
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
        state = apps.update(_CONFIG.value, _WORKDIR.value, _FROM.value, _ENSEMBLE.value, window)
    if int(state.step) < _CONFIG.value.training.num_steps:
        sys.exit(apps.RESTART_CODE)


if __name__ == "__main__":
    apps.start(main)
