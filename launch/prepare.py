"""Prepares data for training: a folder of pictures, or a TFDS data set.

python launch/prepare.py --folder=PHOTOS --labels=by_folder --size=64,64 --out=DIR
python launch/prepare.py --dataset=imagenet_resized/64x64 --out=DIR
"""

from absl import app, flags

from mmdiffusion_jax import apps
from mmdiffusion_jax.data.folder import FolderOptions

_FOLDER = flags.DEFINE_string("folder", "", "A folder of JPEG, PNG or WebP files.")
_DATASET = flags.DEFINE_string("dataset", "", "The name of a data set in TFDS.")
_OUT = flags.DEFINE_string("out", None, "The folder that gets the data.", required=True)
_SIZE = flags.DEFINE_list("size", [], "height,width of all pictures.")
_MASKS = flags.DEFINE_string(
    "masks", "", "A folder of PNG masks; of a data set column:feature, …, by nearest pixels."
)
_LABELS = flags.DEFINE_string("labels", "", "by_folder, or a CSV file with columns file,label.")
_CAPTIONS = flags.DEFINE_string("captions", "", "A CSV file with columns file,caption.")
_CROP = flags.DEFINE_string("crop", "centre", "centre cuts out the middle, or stretch.")
_PALETTE = flags.DEFINE_string(
    "palette", "", "Colours of masks: a known name, grey levels 0,255, or a CSV file."
)
_GREY = flags.DEFINE_bool("grey", False, "Whether pictures get one channel in place of three.")
_STRICT = flags.DEFINE_bool("strict", False, "Whether an unreadable file is an error.")
_TEST_SHARE = flags.DEFINE_float("test_share", 0.1, "The share of pictures to test on.")
_MAX_PIXELS = flags.DEFINE_integer("max_pixels", 100_000_000, "Larger pictures are unreadable.")
_IMAGES = flags.DEFINE_list("images", [], "Of a data set, column:feature, …, by box averages.")
_VALUES = flags.DEFINE_list("values", [], "Of a data set, column:feature, …, as they are.")


def main(argv: list[str]) -> None:
    """Parses the flags and prepares."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    apps.check_prepare_flags([name for name in flags.FLAGS if flags.FLAGS[name].present])
    if _DATASET.value:
        masks = [name for name in _MASKS.value.split(",") if name]
        columns = _IMAGES.value, masks, _VALUES.value
        apps.prepare(_DATASET.value, _OUT.value, _SIZE.value, *columns)
        return
    options = FolderOptions(
        _FOLDER.value,
        apps.parse_size(_SIZE.value),
        masks=_MASKS.value,
        labels=_LABELS.value,
        captions=_CAPTIONS.value,
        crop=_CROP.value,
        palette=apps.parse_palette(_PALETTE.value),
        grey=_GREY.value,
        strict=_STRICT.value,
        test_share=_TEST_SHARE.value,
        max_pixels=_MAX_PIXELS.value,
    )
    apps.prepare_folder(options, _OUT.value)


if __name__ == "__main__":
    apps.start(main)
