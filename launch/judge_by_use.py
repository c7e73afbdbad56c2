"""Judges generated pairs by their use as training data: --workdir=W, a trained joint model.

[--target=mask] [--num_pairs=367] [--steps=N] [--seeds=3] [--out=DIR] and flags of sampling
"""

from absl import app, flags

from mmdiffusion_jax import apps

_WORKDIR = flags.DEFINE_string("workdir", None, "Where a joint model is kept.", required=True)
_TARGET = flags.DEFINE_string(
    "target", None, "What is predicted from the image, such as mask; left out where one can be."
)
_PAIRS = flags.DEFINE_integer("num_pairs", None, "Generated pairs; left out, as many as real ones.")
_STEPS = flags.DEFINE_integer("steps", None, "Of training; left out, as the model's config says.")
_SEEDS = flags.DEFINE_integer("seeds", 3, "How often all is done.")
_OUT = flags.DEFINE_string("out", None, "For the results; left out, a folder in the workdir.")
_PLACES = apps.define_data_flags()
_OPTIONS = apps.define_sampling_flags()


def main(argv: list[str]) -> None:
    """Parses the flags and judges."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    apps.judge_by_use(
        _WORKDIR.value,
        _TARGET.value,
        _PAIRS.value,
        _STEPS.value,
        _SEEDS.value,
        _OUT.value,
        _PLACES(),
        **_OPTIONS(),
    )


if __name__ == "__main__":
    apps.start(main)
