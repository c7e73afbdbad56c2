"""Times the train step beside the same step in PyTorch, in turns: --config=configs/digits.py."""

from absl import app, flags
from ml_collections import config_flags

from mmdiffusion_jax import run
from tests.benchmarks import train_step

_CONFIG = config_flags.DEFINE_config_file("config", "configs/digits.py", "The experiment.")
_STEPS = flags.DEFINE_integer("steps", 100, "Steps in each of the rounds.")


def main(argv: list[str]) -> None:
    """Parses the flags and prints medians and their ratio."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    train_step.compare(_CONFIG.value, _STEPS.value)


if __name__ == "__main__":
    run.start(main)
