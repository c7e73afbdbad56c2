"""Generates samples: --workdir=W [--given=label=3 | image@FILE.npz] [--sampler=NAME …].

[--keep=image@FILE.npz] (a part that stays) [--begin=image:0.6@FILE.npz] (image to image)
[--weaker=W2 --autoguidance=2] (guided by the difference from the model in W2)
"""

from absl import app, flags

from mmdiffusion_jax import apps

_WORKDIR = flags.DEFINE_string("workdir", None, "Where the run is kept.", required=True)
_OUT = flags.DEFINE_string("out", None, "The folder for the results; one in the workdir.")
_NUM_SAMPLES = flags.DEFINE_integer("num_samples", None, "How many; as the given file, or 100.")
_GIVEN = flags.DEFINE_multi_string("given", [], "A known modality: name=value or name@FILE.")
_KEEP = flags.DEFINE_multi_string("keep", [], "A part that stays: name@FILE.npz, and name_keep.")
_BEGIN = flags.DEFINE_multi_string("begin", [], "Where samples begin: name:level@FILE.")
_WEAKER = flags.DEFINE_string("weaker", "", "The workdir of a weaker model for autoguidance.")
_SEED = flags.DEFINE_integer("seed", 0, "Of the samples.")
_SHARD_SIZE = flags.DEFINE_integer("shard_size", None, "Samples a file; ten batches.")
_PNG = flags.DEFINE_bool("png", False, "Also write every sample as a PNG file, into OUT/png.")
_CHECKPOINT = apps.define_checkpoint_flag()
_TRAJECTORY = flags.DEFINE_integer("trajectory", None, "States on the way, of ten samples.")
_OPTIONS = apps.define_sampling_flags(weaker=True)


def main(argv: list[str]) -> None:
    """Parses the flags and samples."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    folder = apps.sample(
        _WORKDIR.value,
        _OUT.value,
        apps.Request(
            _NUM_SAMPLES.value, _GIVEN.value, _SEED.value, _KEEP.value, _BEGIN.value, _WEAKER.value
        ),
        _SHARD_SIZE.value,
        _CHECKPOINT.value,
        _TRAJECTORY.value,
        **_OPTIONS(),
    )
    if _PNG.value:
        apps.write_pictures(_WORKDIR.value, folder)


if __name__ == "__main__":
    apps.start(main)
