"""A user's `.npz` files: whole and damaged, mapped and unpacked, within a bounded memory."""

import pickle
import tracemalloc

import numpy as np
import pytest

from mmdiffusion_jax import data
from tests.data.test_sources import ARRAYS


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
    with pytest.raises(ValueError, match=r"mine\.npz\['image'\]`: got dtype object"):
        data.open_npz(path)
    np.savez(path)
    with pytest.raises(ValueError, match=r"mine\.npz.*no arrays"):
        data.open_npz(path)
    with pytest.raises(ValueError, match=r"did you mean 'mine\.npz'"):
        data.open_npz(tmp_path / "mnie.npz")
    with pytest.raises(ValueError, match="check the path"):
        data.open_npz(tmp_path / "nowhere" / "mine.npz")


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


def test_text_and_objects_are_left_out_and_never_unpickled(tmp_path):
    class Bomb:
        def __reduce__(self):
            return pytest.fail, ("it was unpickled",)

    path = tmp_path / "mine.npz"
    for save in (np.savez, np.savez_compressed):
        save(path, **ARRAYS, caption=np.full(20, "words"), meta=np.array([Bomb()] * 20))
        source = data.open_npz(path)
        assert set(source.columns) == set(ARRAYS)
        assert source.left_out == {"caption": "dtype <U5", "meta": "dtype object"}
    with pytest.raises(ValueError, match=r"\['meta'\]`: got dtype object, expected numbers, bool"):
        data.write_npz(path, {**ARRAYS, "meta": np.array([Bomb()] * 20)})
    data.write_npz(path, {**ARRAYS, "caption": np.full(20, "words")})
    assert data.open_npz(path).left_out == {"caption": "dtype <U5"}


def is_mapped(array):
    while array is not None and not isinstance(array, np.memmap):
        array = array.base
    return array is not None


@pytest.mark.parametrize(
    "values",
    [
        np.arange(24, dtype=np.float32).reshape(6, 2, 2),
        np.asfortranarray(np.arange(24).reshape(6, 4)),
        np.arange(6, dtype=">i4"),
        np.zeros((6, 0)),
        np.arange(6) > 2,
    ],
    ids=["plain", "fortran", "big-endian", "empty", "booleans"],
)
def test_stored_arrays_are_mapped_as_numpy_reads_them(tmp_path, values):
    path = tmp_path / "mine.npz"
    np.savez(path, other=np.arange(6, dtype=np.int8), x=values)
    source = data.open_npz(path)
    assert is_mapped(source._arrays["x"]) == bool(values.size)
    got = source.take(np.arange(6)[::-1])["x"]
    assert got.dtype == source.columns["x"][1] == values.dtype.newbyteorder("=")
    np.testing.assert_array_equal(got, np.load(path)["x"][::-1])


def peak_of_reading(path, *options):
    """The greatest number of bytes that Python and NumPy hold while a batch is read."""
    tracemalloc.start()
    try:
        source = data.open_npz(path, *options)
        batch = source.take(np.arange(0, len(source), len(source) // 8))
        return batch, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_set_larger_than_the_memory_is_read_in_pieces(tmp_path):
    image = np.arange(9 * 2**20, dtype=np.uint32).view(np.uint8).reshape(-1, 64, 64, 3)
    stored, packed = tmp_path / "stored.npz", tmp_path / "packed.npz"
    np.savez(stored, image=image)
    np.savez_compressed(packed, image=np.where(np.arange(image.shape[-1]) == 0, image, 0))
    batch, peak = peak_of_reading(stored)
    np.testing.assert_array_equal(batch["image"], image[:: len(image) // 8])
    assert peak < 8 * 2**20 < image.nbytes / 4
    folder = tmp_path / "unpacked"
    for _ in range(2):
        batch, peak = peak_of_reading(packed, folder, 2**20)
        np.testing.assert_array_equal(batch["image"][..., 0], image[:: len(image) // 8, ..., 0])
        assert peak < 8 * 2**20 < image.nbytes / 4
    assert [file.name for file in folder.iterdir()] == [f"{data.npz_digest(packed)[:32]}.npz"]


def test_a_compressed_file_is_unpacked_once_and_a_damaged_copy_anew(tmp_path):
    path, folder = tmp_path / "mine.npz", tmp_path / "unpacked"
    np.savez_compressed(path, **ARRAYS)
    for limit, copies in ((2**20, 0), (1, 1), (1, 1)):
        got = data.open_npz(path, folder, limit).take(np.arange(20))
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(got[name], array)
        assert len(list(folder.glob("*"))) == copies
    (copy,) = folder.iterdir()
    whole, changed = copy.read_bytes(), copy.stat().st_mtime_ns
    data.open_npz(path, folder, 1)
    assert copy.stat().st_mtime_ns == changed
    for broken in (whole[:-100], whole.replace(ARRAYS["image"].tobytes(), bytes(80)), b""):
        copy.write_bytes(broken)
        np.testing.assert_array_equal(
            data.open_npz(path, folder, 1).take(np.arange(20))["image"], ARRAYS["image"]
        )
        assert copy.read_bytes() == whole
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(ValueError, match=r"mine\.npz.*cannot be read"):
        data.open_npz(path, folder, 1)


def test_a_digest_is_of_the_contents(tmp_path):
    digests = {}
    for name, save, arrays in (
        ("plain", np.savez, ARRAYS),
        ("packed", np.savez_compressed, ARRAYS),
        ("ordered", np.savez, dict(reversed(ARRAYS.items()))),
        ("other", np.savez, {**ARRAYS, "label": ARRAYS["label"] + 1}),
        ("fewer", np.savez, {name: x[:-1] for name, x in ARRAYS.items()}),
        ("renamed", np.savez, {f"{name}s": x for name, x in ARRAYS.items()}),
    ):
        save(tmp_path / f"{name}.npz", **arrays)
        digests[name] = data.npz_digest(tmp_path / f"{name}.npz")
    assert digests["plain"] == digests["packed"] == digests["ordered"]
    assert len(set(digests.values())) == 4
    with pytest.raises(ValueError, match=r"did you mean 'plain\.npz'"):
        data.npz_digest(tmp_path / "plane.npz")


def test_a_folder_in_place_of_a_file_is_called_so(tmp_path):
    (tmp_path / "train.npz").mkdir()
    with pytest.raises(ValueError, match=r"which is a folder, expected an \.npz file; check"):
        data.open_npz(tmp_path / "train.npz")


def test_a_file_that_is_written_into_no_folder_is_said_by_the_folders_name(tmp_path):
    with pytest.raises(OSError, match=f"No such folder: '{tmp_path}/none'"):
        data.write_npz(tmp_path / "none" / "x.npz", {"x": np.zeros(3)})
