"""Prepared TFDS data sets: which features become columns, and files that are damaged or missing."""

import json
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from mmdiffusion_jax import data


class Mixed(tfds.core.GeneratorBasedBuilder):
    """Features that can be columns, and ones that cannot."""

    VERSION = tfds.core.Version("1.0.0")
    _count = 20

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "vector": tfds.features.Tensor(shape=(3,), dtype=np.float32, encoding="bytes"),
                    "small": np.int8,
                    "flag": np.bool_,
                    "pair": tfds.features.Sequence(np.int64, length=2),
                    "ragged": tfds.features.Tensor(shape=(None,), dtype=np.float32),
                    "picture": tfds.features.Image(shape=(None, None, 3)),
                    "text": tfds.features.Text(),
                    "nested": {"a": np.int64},
                }
            ),
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for i in range(self._count):
            yield (
                i,
                {
                    "vector": np.full(3, i, np.float32),
                    "small": i - 10,
                    "flag": i % 2 == 0,
                    "pair": [i, -i],
                    "ragged": np.zeros(i + 1, np.float32),
                    "picture": Image.fromarray(np.zeros((i + 1, 4, 3), np.uint8)),
                    "text": "words",
                    "nested": {"a": i},
                },
            )


def prepare_mixed(data_dir, count=20):
    tfds.disable_progress_bar()
    builder = Mixed(data_dir=str(data_dir), file_format="array_record")
    builder._count = count
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(num_shards=3))
    return data_dir / "mixed" / "1.0.0"


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    return prepare_mixed(tmp_path_factory.mktemp("mixed"))


@pytest.fixture
def mixed_copy(mixed, tmp_path):
    return shutil.copytree(mixed, tmp_path / "1.0.0")


def test_fixed_numbers_become_columns_of_their_dtype(mixed):
    memory = data.open_tfds(mixed, "train")
    lazy = data.open_tfds(mixed, "train", max_in_memory_bytes=0)
    assert isinstance(memory, data.ArraySource)
    assert isinstance(lazy, data.RecordSource)
    assert memory.columns == lazy.columns
    assert memory.columns == {
        "vector": ((3,), np.dtype(np.float32)),
        "small": ((), np.dtype(np.int8)),
        "flag": ((), np.dtype(bool)),
        "pair": ((2,), np.dtype(np.int64)),
    }
    batch = memory.take(np.arange(20))
    values = batch["small"].astype(int) + 10
    assert sorted(values) == list(range(20))
    np.testing.assert_array_equal(batch["vector"], np.repeat(values[:, None], 3, 1))
    np.testing.assert_array_equal(batch["pair"], np.stack([values, -values], 1))
    np.testing.assert_array_equal(batch["flag"], values % 2 == 0)
    rows = np.array([19, 0, 7])
    for name, value in lazy.take(rows).items():
        assert value.dtype == batch[name].dtype
        np.testing.assert_array_equal(value, batch[name][rows])


def test_memory_is_used_up_to_the_limit(mixed):
    size = 20 * (3 * 4 + 1 + 1 + 2 * 8)
    assert isinstance(data.open_tfds(mixed, "train", size), data.ArraySource)
    assert isinstance(data.open_tfds(mixed, "train", size - 1), data.RecordSource)


def test_folders_that_are_no_data_set(mixed, mixed_copy, tmp_path):
    with pytest.raises(ValueError, match=r"has no dataset_info\.json.*prepare the data set first"):
        data.open_tfds(tmp_path / "nowhere", "train")
    with pytest.raises(ValueError, match=r"did you mean its folder '1\.0\.0'"):
        data.open_tfds(mixed.parent, "train")
    with pytest.raises(ValueError, match=r"`split`: got 'trian'.*did you mean 'train'"):
        data.open_tfds(mixed, "trian")
    metadata = mixed_copy / "dataset_info.json"
    stated = json.loads(metadata.read_text())
    metadata.write_text(json.dumps({**stated, "fileFormat": "tfrecord"}))
    with pytest.raises(ValueError, match=r"format 'tfrecord'.*file_format='array_record'"):
        data.open_tfds(mixed_copy, "train")
    metadata.write_text(metadata.read_text()[:50])
    with pytest.raises(ValueError, match="readable metadata"):
        data.open_tfds(mixed_copy, "train")


@pytest.mark.parametrize("limit", [0, 2**30])
def test_damaged_shards(mixed, mixed_copy, tmp_path, limit):
    shard = sorted(mixed_copy.glob("*00001-of*"))[0]
    whole = shard.read_bytes()
    for kept in (0, len(whole) // 2, len(whole) - 1):
        shard.write_bytes(whole[:kept])
        with pytest.raises(ValueError, match=r"split 'train' cannot be read.*20 whole examples"):
            data.open_tfds(mixed_copy, "train", limit)
        assert shard.read_bytes() == whole[:kept]
    shard.unlink()
    with pytest.raises(ValueError, match=r"cannot be read.*00001-of-00003"):
        data.open_tfds(mixed_copy, "train", limit)
    other = prepare_mixed(tmp_path, count=30)
    shutil.copy(other / shard.name, shard)
    with pytest.raises(ValueError, match=r"00001-of-00003 holds \d+ examples, not \d+"):
        data.open_tfds(mixed_copy, "train", limit)


def test_records_damaged_inside_are_named_when_read(mixed_copy):
    shard = sorted(mixed_copy.glob("*00000-of*"))[0]
    broken = bytearray(shard.read_bytes())
    # The first chunk of records follows the file's signature of 64 bytes and its own header of 40.
    broken[64 + 40 + 10] ^= 0xFF
    shard.write_bytes(broken)
    with pytest.raises(ValueError, match=r"split 'train'.*records that cannot be read"):
        data.open_tfds(mixed_copy, "train")
    lazy = data.open_tfds(mixed_copy, "train", max_in_memory_bytes=0)
    with pytest.raises(ValueError, match=r"split 'train'.*records that cannot be read"):
        lazy.take(np.arange(len(lazy)))


@pytest.mark.parametrize("limit", [0, 2**30])
def test_a_part_is_held_out(mixed, limit):
    source = data.open_tfds(mixed, "train", limit)
    rest, held_out = data.split_off(source, 0.3, seed=1)
    assert (len(rest), len(held_out)) == (14, 6)
    parts = [part.take(np.arange(len(part)))["small"].tolist() for part in (rest, held_out)]
    assert sorted(parts[0] + parts[1]) == list(range(-10, 10))
    again = data.split_off(source, 0.3, seed=1)[1]
    assert again.take(np.arange(6))["small"].tolist() == parts[1]
    other = data.split_off(source, 0.3, seed=2)[1]
    assert other.take(np.arange(6))["small"].tolist() != parts[1]
    assert rest.columns == source.columns
