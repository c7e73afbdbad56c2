"""Measures this library against PyTorch and against itself: [--only=NAME,…] [--quick] [--out=DIR].

The names and what they mean are in docs/benchmarks.md.
"""

import sys
from pathlib import Path

from absl import app, flags

from mmdiffusion_jax import apps

# The benchmarks stand beside the package and are not installed with it.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.speed import conduct

_ONLY = flags.DEFINE_list("only", [], "Benchmarks or rows; all of them without it.")
_QUICK = flags.DEFINE_boolean("quick", False, "A few short rounds, to see that all of it runs.")
_OUT = flags.DEFINE_string("out", "benchmarks", "The folder that gets results.json and .md.")


def main(argv: list[str]) -> None:
    """Parses the flags and measures."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    conduct.run(_ONLY.value, _QUICK.value, _OUT.value)


if __name__ == "__main__":
    apps.start(main)
