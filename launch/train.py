"""Trains a model: --config=configs/digits.py --workdir=W [--config.x=y]."""

from absl import app, flags
from ml_collections import config_flags

from mmdiffusion_jax import run

_CONFIG = config_flags.DEFINE_config_file("config", None, "The experiment.", lock_config=True)
flags.mark_flag_as_required("config")
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Where the run is kept; run again to go on.", required=True
)


def main(argv: list[str]) -> None:
    """Parses the flags and trains."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    run.train(_CONFIG.value, _WORKDIR.value)


if __name__ == "__main__":
    run.start(main)
