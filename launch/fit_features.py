"""Fits a feature network: --data=FILE.npz --test=FILE.npz --out=features.safetensors.

Or of a small set: --data=fashion_mnist --path=FOLDER --size=32,32 --out=features.safetensors.
"""

from absl import app, flags

from mmdiffusion_jax import apps

_DATA = flags.DEFINE_string("data", None, "An .npz file, or a small set.", required=True)
_OUT = flags.DEFINE_string("out", None, "The .safetensors file to be written.", required=True)
_TEST = flags.DEFINE_string("test", None, "Another .npz file, to measure the accuracy on.")
_PATH = flags.DEFINE_string("path", "", "The folder of the small sets.")
_SIZE = flags.DEFINE_list("size", [], "height,width of a small set's images; as they are without.")
_IMAGE = flags.DEFINE_string("image", "image", "The name of the images in the files.")
_LABEL = flags.DEFINE_string("label", "label", "The name of the labels in the files.")
_NUM_STEPS = flags.DEFINE_integer("num_steps", 2000, "Batches that are learned from.")
_SEED = flags.DEFINE_integer("seed", 0, "Of the training.")


def main(argv: list[str]) -> None:
    """Parses the flags and fits."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    apps.fit_features(
        apps.LabelledImages(
            _DATA.value,
            _TEST.value,
            _PATH.value,
            apps.parse_size(_SIZE.value) if _SIZE.value else (0, 0),
            _IMAGE.value,
            _LABEL.value,
        ),
        _OUT.value,
        num_steps=_NUM_STEPS.value,
        seed=_SEED.value,
    )


if __name__ == "__main__":
    apps.start(main)
