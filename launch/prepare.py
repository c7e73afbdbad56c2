"""Prepares a TFDS data set for training: --dataset=imagenet_resized/64x64 --out=DIR."""

from absl import app, flags

from mmdiffusion_jax import apps

_DATASET = flags.DEFINE_string("dataset", None, "Its name in TFDS.", required=True)
_OUT = flags.DEFINE_string("out", None, "The folder that gets it.", required=True)
_SIZE = flags.DEFINE_list("size", [], "height,width of a copy with the columns below.")
_IMAGES = flags.DEFINE_list("images", [], "column:feature, …: resized by box averages.")
_MASKS = flags.DEFINE_list("masks", [], "column:feature, …: resized by nearest pixels.")
_VALUES = flags.DEFINE_list("values", [], "column:feature, …: numbers, kept as they are.")


def main(argv: list[str]) -> None:
    """Parses the flags and prepares."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    apps.prepare(
        _DATASET.value, _OUT.value, _SIZE.value, _IMAGES.value, _MASKS.value, _VALUES.value
    )


if __name__ == "__main__":
    apps.start(main)
