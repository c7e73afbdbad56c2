"""Prepared TFDS data sets and their copies at one size, against Pillow; builders that cannot."""

import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from mmdiffusion_jax import apps, data
from mmdiffusion_jax.data.fixed_size import Layout, prepare_tfds, resize_tfds
from tests.apps.small import launch

RNG = np.random.default_rng(0)
SIZES = [(9, 12), (7, 5), (16, 8), (6, 8)]
PHOTOS = [RNG.integers(0, 256, (*size, 3), np.uint8) for size in SIZES]
MASKS = [RNG.integers(0, 4, (*size, 1), np.uint8) for size in SIZES]
LAYOUT = Layout({"image": "photo"}, {"mask": "mask"}, {"label": "label", "box": "box"}, (6, 8))


class PhotosAndMasks(tfds.core.GeneratorBasedBuilder):
    """Pictures of varied size, as those of pets are."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "photo": tfds.features.Image(shape=(None, None, 3)),
            "mask": tfds.features.Image(shape=(None, None, 1), use_colormap=True),
            "label": tfds.features.ClassLabel(num_classes=4),
            "box": tfds.features.Tensor(shape=(2,), dtype=np.float32),
            "text": tfds.features.Text(),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples([0, 1, 2]), "test": self._generate_examples([3])}

    def _generate_examples(self, rows):
        for row in rows:
            images = {
                "photo": Image.fromarray(PHOTOS[row]),
                "mask": Image.fromarray(MASKS[row][..., 0]),
            }
            box = np.array([row, -1], np.float32)
            yield row, {**images, "label": row, "box": box, "text": "words"}


class NeedsTensorflow(PhotosAndMasks):
    """Cannot be prepared without TensorFlow."""

    def _generate_examples(self, rows):
        from tensorflow_datasets.core.utils.lazy_imports_utils import tensorflow as tf

        yield 0, {"photo": tf.io.read_file("x")}


class NeedsHands(PhotosAndMasks):
    """Cannot be downloaded by a program."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = "Log in and download it."

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples([dl_manager.manual_dir])}


class Breaks(PhotosAndMasks):
    """Its server is gone."""

    def _split_generators(self, dl_manager):
        raise OSError("no route to host\nand more")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return prepare_tfds("photos_and_masks", tmp_path_factory.mktemp("sets"))


def test_a_copy_has_one_size_and_pillows_pixels(prepared, tmp_path):
    folder = resize_tfds(prepared, tmp_path, LAYOUT)
    assert folder.endswith("photos_and_masks_6x8/1.0.0")
    for split, rows in (("train", {0, 1, 2}), ("test", {3})):
        source = data.open_tfds(folder, split)
        assert source.columns["image"] == ((6, 8, 3), np.dtype(np.uint8))
        assert source.columns["mask"] == ((6, 8), np.dtype(np.uint8))
        batch = source.take(np.arange(len(source)))
        assert set(batch["label"].tolist()) == rows
        for index, row in enumerate(batch["label"]):
            photo, mask = Image.fromarray(PHOTOS[row]), Image.fromarray(MASKS[row][..., 0])
            want = photo.resize((8, 6), Image.Resampling.BOX)
            np.testing.assert_array_equal(batch["image"][index], np.asarray(want))
            want = mask.resize((8, 6), Image.Resampling.NEAREST)
            np.testing.assert_array_equal(batch["mask"][index], np.asarray(want))
            assert batch["box"][index].tolist() == [row, -1]


def test_a_whole_copy_is_not_made_again_nor_taken_for_another(prepared, tmp_path):
    folder = resize_tfds(prepared, tmp_path, LAYOUT)
    assert resize_tfds(prepared, tmp_path, LAYOUT) == folder
    other = Layout({"image": "photo"}, {}, {}, LAYOUT.size)
    with pytest.raises(ValueError, match=r"`out`: got .*box = box, .*expected image = photo of"):
        resize_tfds(prepared, tmp_path, other)


def test_the_script_prepares_what_a_config_can_name(tmp_path, capsys):
    folder = apps.prepare("photos_and_masks", str(tmp_path), ["4", "4"], ["photo"], [], ["label"])
    assert capsys.readouterr().out.strip() == folder
    assert data.open_tfds(folder, "train").columns["photo"][0] == (4, 4, 3)
    assert apps.prepare("photos_and_masks", str(tmp_path)).endswith("photos_and_masks/1.0.0")
    done = launch("prepare", "--dataset=no_such_set", f"--out={tmp_path}")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: `dataset`: got 'no_such_set'")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("photos_and_mask", "did you mean 'photos_and_masks'"),
        ("needs_tensorflow", r"without tensorflow; install it .*`pip install tensorflow`"),
        ("needs_hands", r"downloaded by hand; put them into '.*downloads/manual'"),
        ("breaks", r"got 'breaks' \(no route to host\), expected a data set that can be"),
    ],
)
def test_builders_that_cannot_be_prepared(name, words, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(ValueError, match=words):
        prepare_tfds(name, tmp_path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"images": {"image": "foto"}}, "`images`: got 'foto'.*did you mean 'photo'"),
        ({"masks": {"mask": "photo"}}, "`masks`: got 'photo'.*8-bit images of 1 channel"),
        ({"images": {"image": "label"}}, "`images`: got 'label'"),
        ({"values": {"text": "text"}}, "`values`: got 'text'.*numbers of one shape"),
        ({"values": {"mask": "label"}}, "a column twice"),
        ({"images": {}, "masks": {}, "values": {}}, "got no columns"),
        ({"size": (0, 4)}, r"`size`: got \(0, 4\)"),
    ],
)
def test_layouts_that_do_not_suit(prepared, tmp_path, changes, words):
    layout = Layout(**{**vars(LAYOUT), **changes})
    with pytest.raises(ValueError, match=words):
        resize_tfds(prepared, tmp_path, layout)
    with pytest.raises(ValueError, match="prepare it first"):
        resize_tfds(tmp_path, tmp_path, LAYOUT)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"images": ["image"]}, "`size`: got none"),
        ({"size": ["64"]}, "`size`: got 64, expected height,width"),
        ({"size": ["6", "x"]}, "`size`: got 6,x"),
        ({"size": ["6", "6"], "masks": ["mask:"]}, "`masks`: got 'mask:'"),
        ({"size": ["6", "6"], "values": ["a", "a:b"]}, "`values`: got 'a:b'"),
    ],
)
def test_bad_requests_prepare_nothing(tmp_path, options, words):
    with pytest.raises(ValueError, match=words):
        apps.prepare("digits", str(tmp_path / "out"), **options)
    assert not (tmp_path / "out").exists()
