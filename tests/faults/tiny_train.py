"""Like launch/train.py, for the tiny experiment."""

import contextlib
import sys

import jax
from absl import app, flags

from mmdiffusion_jax import apps, data, files
from tests.faults import tiny

_WORKDIR = flags.DEFINE_string("workdir", None, "Where the run is kept.", required=True)
_EXAMPLES = flags.DEFINE_string("examples", None, "An .npz file to train on.")
_KEEP = flags.DEFINE_integer("keep", 2, "Checkpoints that stay.")
_PROCESSES = apps.define_distributed_flags()


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    apps.join(_PROCESSES())
    source = data.ArraySource(tiny.examples())
    if _EXAMPLES.value:
        source = data.open_npz(_EXAMPLES.value)
    workdir = files.to_path(_WORKDIR.value, "workdir")
    workdir.mkdir(parents=True, exist_ok=True)
    first = jax.process_index() == 0
    with files.locked(workdir, "workdir") if first else contextlib.nullcontext():
        state = tiny.train(workdir, source, _KEEP.value)
    if int(state.step) < tiny.STEPS:
        sys.exit(apps.RESTART_CODE)


if __name__ == "__main__":
    apps.start(main)
