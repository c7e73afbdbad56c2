"""Generates samples: --workdir=W --num_samples=N --out=DIR [--given=label=3 | image=FILE]."""

from absl import app, flags

from mmdiffusion_jax import run

_WORKDIR = flags.DEFINE_string("workdir", None, "Where the run is kept.", required=True)
_NUM_SAMPLES = flags.DEFINE_integer("num_samples", 100, "How many samples.")
_OUT = flags.DEFINE_string(
    "out", None, "The folder that gets samples.npz and samples.png.", required=True
)
_GIVEN = flags.DEFINE_multi_string(
    "given", [], "A known modality: name=value, or name=FILE.npz|npy with a value for each sample."
)
_SEED = flags.DEFINE_integer("seed", 0, "Of the samples.")


def main(argv: list[str]) -> None:
    """Parses the flags and samples."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    run.sample(_WORKDIR.value, _OUT.value, _NUM_SAMPLES.value, _GIVEN.value, _SEED.value)


if __name__ == "__main__":
    run.start(main)
