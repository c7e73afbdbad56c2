"""Sources against the arrays and files they were made from, whole and damaged."""

import json
import pickle
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from mmdiffusion_jax import data

ARRAYS = {
    "image": np.arange(20 * 4, dtype=np.uint8).reshape(20, 4),
    "label": np.arange(20) * 7 % 11,
    "label_present": np.arange(20) % 3 > 0,
}


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


def test_a_batch_is_the_rows_asked_for():
    source = data.ArraySource(ARRAYS)
    assert len(source) == 20
    assert source.columns["image"] == ((4,), np.dtype(np.uint8))
    batch = source.take(np.array([7, 0, 7]))
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(batch[name], np.stack([array[7], array[0], array[7]]))


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"a": np.zeros(3), "b": np.zeros(4)}, r"lengths \{'a': 3, 'b': 4\}"),
        ({"a": np.zeros((0, 3))}, "no examples"),
        ({"a": np.float32(1)}, r"lengths \{'a': None\}"),
        ({}, "no arrays"),
        ({"a": np.array([None])}, r"\['a'\].*dtype object"),
        ({"a": np.array(["x"])}, "dtype <U1"),
    ],
)
def test_arrays_that_are_no_examples(arrays, words):
    with pytest.raises(ValueError, match=words):
        data.ArraySource(arrays)


def test_npz_round_trip_reads_only(tmp_path):
    for save in (np.savez, np.savez_compressed):
        path = tmp_path / "mine.npz"
        save(path, **ARRAYS)
        before = path.read_bytes()
        source = data.open_npz(path)
        assert source.columns == data.ArraySource(ARRAYS).columns
        for name, values in source.take(np.arange(20)).items():
            np.testing.assert_array_equal(values, ARRAYS[name])
        assert path.read_bytes() == before


def test_no_flipped_bit_changes_what_is_read(tmp_path):
    path = tmp_path / "mine.npz"
    np.savez(path, **ARRAYS)
    whole = path.read_bytes()
    refused = unnamed = 0
    for place in range(0, len(whole), 3):
        broken = bytearray(whole)
        broken[place] ^= 1 << place % 8
        path.write_bytes(broken)
        try:
            batch = data.open_npz(path).take(np.arange(20))
        except ValueError as error:
            refused += "mine.npz" in str(error)
            unnamed += "mine.npz" not in str(error)
        else:
            # Dates and the like may change; names, values and dtypes may not.
            assert set(batch) == set(ARRAYS)
            for name, values in batch.items():
                assert values.dtype == ARRAYS[name].dtype
                np.testing.assert_array_equal(values, ARRAYS[name])
        assert path.read_bytes() == bytes(broken)
    assert refused > len(whole) // 6
    assert unnamed == 0


def test_a_header_that_hides_rows_is_seen(tmp_path):
    path = tmp_path / "mine.npz"
    np.savez(path, image=np.zeros((9000, 64), np.uint8))
    path.write_bytes(path.read_bytes().replace(b"(9000, 64)", b"(1000, 64)", 1))
    with np.load(path) as archive:
        assert len(archive["image"]) == 1000
    with pytest.raises(ValueError, match=r"mine\.npz.*checksum of 'image\.npy'"):
        data.open_npz(path)


def test_an_array_lost_from_the_list_is_seen(tmp_path):
    path = tmp_path / "mine.npz"
    np.savez(path, **ARRAYS)
    broken = bytearray(path.read_bytes())
    # The length of the first listed member's comment, which now swallows the members after it.
    broken[broken.index(b"PK\1\2") + 32] ^= 0x80
    path.write_bytes(broken)
    with np.load(path) as archive:
        assert archive.files == ["image"]
    with pytest.raises(ValueError, match=r"mine\.npz.*lists 1 of its 3 arrays"):
        data.open_npz(path)


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.5, 0.99])
def test_cut_npz(tmp_path, kept):
    path = tmp_path / "mine.npz"
    np.savez(path, **ARRAYS)
    cut = path.read_bytes()[: int(kept * path.stat().st_size)]
    path.write_bytes(cut)
    with pytest.raises(ValueError, match=r"mine\.npz' \(\d+ bytes\), which cannot be read"):
        data.open_npz(path)
    assert path.read_bytes() == cut


def test_npz_of_the_wrong_kind(tmp_path):
    path = tmp_path / "mine.npz"
    path.write_bytes(pickle.dumps({"image": [1]}))
    with pytest.raises(ValueError, match=r"mine\.npz.*cannot be read"):
        data.open_npz(path)
    np.savez(path, image=np.array([{"a": 1}], object))
    with pytest.raises(ValueError, match=r"mine\.npz.*Object arrays"):
        data.open_npz(path)
    np.savez(path)
    with pytest.raises(ValueError, match=r"mine\.npz.*no arrays"):
        data.open_npz(path)
    np.savez(path, image=np.zeros(2), image_present=np.zeros(2))
    with pytest.raises(ValueError, match=r"'image_present'.*float64.*booleans"):
        data.open_npz(path)
    with pytest.raises(ValueError, match=r"did you mean 'mine\.npz'"):
        data.open_npz(tmp_path / "mnie.npz")
    with pytest.raises(ValueError, match="check the path"):
        data.open_npz(tmp_path / "nowhere" / "mine.npz")


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


def test_parts_that_cannot_be():
    source = data.ArraySource({"label": np.arange(10)})
    for fraction in (0.0, 1.0, -0.1, 0.01, float("nan")):
        with pytest.raises(ValueError, match=r"`fraction`: got .*10 examples"):
            data.split_off(source, fraction, seed=0)
    with pytest.raises(ValueError, match="`seed`: got -1"):
        data.split_off(source, 0.5, seed=-1)
    with pytest.raises(ValueError, match=r"`indices`: got 0 … 10, expected 0 … 9"):
        data.Subset(source, np.array([0, 10]))
    with pytest.raises(ValueError, match=r"`indices`: .*dtype bool"):
        data.Subset(source, np.ones(10, bool))


def test_written_columns_are_read_again_and_a_failed_write_leaves_the_old(tmp_path, monkeypatch):
    file = tmp_path / "mine.npz"
    data.write_npz(file, ARRAYS)
    got = data.open_npz(file).take(np.arange(20))
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(got[name], array)
    before = file.read_bytes()

    def full(stream, **arrays):
        stream.write(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="no space left"):
        data.write_npz(file, ARRAYS)
    with pytest.raises(ValueError, match="arrays of lengths"):
        data.write_npz(file, {"a": np.zeros(2), "b": np.zeros(3)})
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["mine.npz"]
