"""Reproduces what graceful updates give: --seeds=5 --first_seed=S --out=F.json [--ranges]."""

import sys
from pathlib import Path

from absl import app, flags

from mmdiffusion_jax import apps

# The benchmarks stand beside the package and are not installed with it.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.graceful_worlds import graceful_benchmark

_SEEDS = flags.DEFINE_integer("seeds", 5, "How many.")
_FIRST_SEED = flags.DEFINE_integer("first_seed", 0, "The seeds count up from it.")
_RANGES = flags.DEFINE_bool("ranges", False, "Go through scales, widths and weights as well.")
_OUT = flags.DEFINE_string("out", None, "The JSON file of all figures.", required=True)


def main(argv: list[str]) -> None:
    """Parses the flags and runs."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    graceful_benchmark(_SEEDS.value, _FIRST_SEED.value, _OUT.value, _RANGES.value)


if __name__ == "__main__":
    apps.start(main)
