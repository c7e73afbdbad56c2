"""Measures on one GPU until the minutes are over; `benchmarks/gpu.sh` starts it.

The script lays the packages beside it that a machine lacks.
"""

import sys
import time

from absl import app, flags

from benchmarks.gpu import sections, session
from mmdiffusion_jax import apps, files, ranges

_MINUTES = flags.DEFINE_float("minutes", 9.0, "When all has to be done.")
_ONLY = flags.DEFINE_list("only", [], f"Of {', '.join(sections.SECTIONS)}; all without it.")
_DATA = flags.DEFINE_string("data", None, "The folder of the public sets, for the trainings.")
_OUT = flags.DEFINE_string("out", "gpu", "The folder of the results.")
_TOY = flags.DEFINE_boolean("toy", False, "Small sizes on the CPU, to see that the order runs.")


def main(argv: list[str]) -> None:
    """Parses the flags and measures."""
    begun = time.monotonic()
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    for name in _ONLY.value:
        ranges.check_one_of("only", name, sections.SECTIONS)
    out = files.writable_folder(_OUT.value, "out")
    out.mkdir(parents=True, exist_ok=True)
    data = files.local_path(_DATA.value, "data").absolute() if _DATA.value else None
    plan = sections.TOY if _TOY.value else sections.FULL
    deadline = begun + 60 * _MINUTES.value
    asked = sections.Session(plan, deadline, data, out.absolute())
    broken = session.run(asked, _ONLY.value or list(sections.SECTIONS))
    if broken:
        sys.exit("\n".join(f"{name}: {words}" for name, words in broken.items()))


if __name__ == "__main__":
    apps.start(main)
