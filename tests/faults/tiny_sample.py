"""Like launch/sample.py, for numbers in place of samples."""

from pathlib import Path

import numpy as np
from absl import flags

from mmdiffusion_jax import apps
from mmdiffusion_jax.apps.shards import write_shards

_OUT = flags.DEFINE_string("out", None, "The folder.", required=True)


def make(first, count):
    return {"x": np.random.default_rng(first).normal(size=(count, 4000))}


def main(argv):
    del argv
    write_shards(Path(_OUT.value), {"seed": 0}, 7, 2, make)


if __name__ == "__main__":
    apps.start(main)
