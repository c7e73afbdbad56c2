"""The small data sets: what was written is what is read; damage, and the real files if there."""

import gzip
import io
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from mmdiffusion_jax import data
from tests.data import small_files


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    small_files.write_all(folder)
    return folder


def everything(source):
    return source.take(np.arange(len(source)))


def assert_same(got, want):
    assert set(got) == set(want)
    for name, x in want.items():
        np.testing.assert_array_equal(got[name], x)


@pytest.mark.parametrize(("split", "stem"), [("train", "train"), ("test", "t10k")])
def test_fashion_mnist(folder, split, stem):
    written = small_files.fashion_mnist()
    images = written[f"{stem}-images-idx3-ubyte.gz"][..., None]
    labels = written[f"{stem}-labels-idx1-ubyte.gz"]
    got = everything(data.open_fashion_mnist(folder, split))
    assert_same(got, {"image": images, "label": labels})
    got = everything(data.open_fashion_mnist(folder, split, (32, 32)))
    np.testing.assert_array_equal(got["image"][:, 2:30, 2:30], images)
    assert got["image"].shape == (len(images), 32, 32, 1)
    assert got["image"].sum() == images.sum()


@pytest.mark.parametrize("split", ["train", "test"])
def test_mnist_and_the_digits_spoken_with_it(folder, split):
    written, spoken = small_files.mnist(), small_files.fsdd()
    images, labels = written[f"{split}_image"][..., None], written[f"{split}_label"]
    assert_same(everything(data.open_mnist(folder, split)), {"image": images, "label": labels})
    pairs = spoken[f"{split}_mnist_pair"]
    want = {
        "image": images[pairs],
        "audio": data.log_mel(spoken[f"{split}_audio"], 8000, 16, 8),
        "label": labels[pairs],
        "speaker": spoken[f"{split}_speaker"],
    }
    assert_same(everything(data.open_spoken_digits(folder, split, spectrogram=(16, 8))), want)


def test_cifar10_joins_its_parts(folder):
    written = small_files.cifar10()
    parts = [written[f"train_{part}"] for part in range(4)]
    want = {name: np.concatenate([part[name] for part in parts]) for name in ("image", "label")}
    assert_same(everything(data.open_cifar10(folder, "train")), want)
    assert_same(everything(data.open_cifar10(folder, "test")), written["test"])


@pytest.mark.parametrize("split", ["train", "val", "test", "test_unseen"])
def test_camvid(folder, split):
    written, stored = small_files.camvid(), split.removesuffix("_unseen")
    kept = slice(1, None) if split == "test_unseen" else slice(None)
    images, masks = written[f"{stored}_image"][kept], written[f"{stored}_mask"][kept]
    got = everything(data.open_camvid(folder, split))
    assert_same(got, {"image": images, "mask": masks})
    got = everything(data.open_camvid(folder, split, (48, 64)))
    np.testing.assert_array_equal(got["mask"], masks[:, 1::2, 1::2])
    assert got["image"].shape[1:] == (48, 64, 3)
    padded = everything(data.open_camvid(folder, split, (98, 128)))["mask"]
    assert (padded[:, [0, -1]] == 11).all()


@pytest.mark.parametrize(("name", "open_set"), data.SMALL_SETS.items())
def test_what_cannot_be_opened(folder, tmp_path, name, open_set):
    with pytest.raises(ValueError, match=r"`split`: got 'tests'.*did you mean 'test'"):
        open_set(folder, "tests")
    with pytest.raises(ValueError, match=r"`path`: .*where there is no .*set config.data.path"):
        open_set(tmp_path, "test")
    with pytest.raises(ValueError, match=r"`size`: got \(95, 20\)"):
        open_set(folder, "test", (95, 20))


@pytest.mark.parametrize("cut", [0, 5, 100, -30])
@pytest.mark.parametrize(("name", "open_set"), data.SMALL_SETS.items())
def test_damaged_files(tmp_path, name, open_set, cut):
    small_files.write_all(tmp_path)
    stored = {"spoken_digits": "fsdd"}.get(name, name)
    for file in (tmp_path / stored).iterdir():
        file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(ValueError, match=r"`path`: got .*cannot be read.*restore that file"):
        open_set(tmp_path, "test")


def test_a_flipped_byte_is_seen(tmp_path):
    small_files.write_all(tmp_path)
    for file in (
        tmp_path / "mnist" / "mnist.npz",
        tmp_path / "fashion_mnist" / "t10k-images-idx3-ubyte.gz",
    ):
        content = bytearray(file.read_bytes())
        content[-len(content) // 3] ^= 1
        file.write_bytes(content)
    for open_set in (data.open_mnist, data.open_fashion_mnist):
        with pytest.raises(ValueError, match="cannot be read"):
            open_set(tmp_path, "test")


@pytest.mark.parametrize(
    ("name", "folders"),
    [(name, [name]) for name in ("camvid", "cifar10", "fashion_mnist", "mnist")]
    + [("spoken_digits", ["fsdd", "mnist"])],
)
def test_a_digest_is_of_every_file_and_of_what_is_in_it(tmp_path, name, folders):
    place = tmp_path / "sets"
    small_files.write_all(place)
    digest = data.small_set_digest(name, place)
    other = shutil.copytree(place, tmp_path / "other")
    assert data.small_set_digest(name, other) == digest
    for file in sorted(path for folder in folders for path in (place / folder).iterdir()):
        whole = file.read_bytes()
        packed_anew, changed = (gzips if file.suffix == ".gz" else archives)(file)
        file.write_bytes(packed_anew)
        assert data.small_set_digest(name, place) == digest
        file.write_bytes(changed)
        assert data.small_set_digest(name, place) != digest
        file.write_bytes(whole[:5])
        with pytest.raises(ValueError, match=r"`path`: got .*cannot be read.*restore that file"):
            data.small_set_digest(name, place)
        file.unlink()
        with pytest.raises(ValueError, match=r"`path`: .*where there is no .*set config.data.path"):
            data.small_set_digest(name, place)
        file.write_bytes(whole)


def gzips(file):
    """(the same contents packed otherwise, others of the same size), as bytes of files."""
    content = gzip.decompress(file.read_bytes())
    return gzip.compress(content, 9), gzip.compress(content[:-1] + bytes([content[-1] ^ 1]))


def archives(file):
    with np.load(file) as archive:
        arrays = dict(archive)
    key = next(key for key in arrays if key.endswith(("image", "audio")))
    packed = []
    for each in (arrays, {**arrays, key: arrays[key] ^ 1}):
        stream = io.BytesIO()
        np.savez(stream, **each)
        packed.append(stream.getvalue())
    return packed


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"test_label": np.array([0, 1, 2, 0, 1, 10])}, "'test_label' has values 0 … 10"),
        ({"test_label": np.zeros(5, np.uint8)}, "arrays of lengths"),
        ({"test_image": np.zeros((6, 27, 28), np.uint8)}, r"shape \(6, 27, 28\) and dtype uint8"),
        ({"test_image": np.zeros((6, 28, 28))}, "dtype float64"),
        ({"test_label": np.array(3)}, r"'test_label' has shape \(\)"),
    ],
)
def test_wrong_members(tmp_path, changes, words):
    small_files.write_members(tmp_path / "mnist" / "mnist.npz", {**small_files.mnist(), **changes})
    with pytest.raises(ValueError, match=words):
        data.open_mnist(tmp_path, "test")


def test_wrong_pairs_and_kinds_of_idx(tmp_path):
    small_files.write_all(tmp_path)
    pairs = {"test_mnist_pair": np.array([0, 1, 3], np.int32)}
    small_files.write_members(tmp_path / "fsdd" / "fsdd_8k.npz", {**small_files.fsdd(), **pairs})
    with pytest.raises(ValueError, match="digits are paired with other digits"):
        data.open_spoken_digits(tmp_path, "test")
    file = tmp_path / "fashion_mnist" / "t10k-images-idx3-ubyte.gz"
    content = gzip.decompress(file.read_bytes())
    file.write_bytes(gzip.compress(b"\0\0\x0d" + content[3:]))
    with pytest.raises(ValueError, match="first bytes 00000d03 are not those"):
        data.open_fashion_mnist(tmp_path, "test")


@pytest.mark.parametrize(
    ("name", "split", "count", "per_class"),
    [
        ("camvid", "test", 233, None),
        ("camvid", "test_unseen", 171, None),
        ("cifar10", "test", 10_000, 1000),
        ("fashion_mnist", "train", 60_000, 6000),
        ("mnist", "test", 10_000, None),
        ("spoken_digits", "test", 300, 30),
    ],
)
def test_the_real_files(name, split, count, per_class):
    path = os.environ.get("MMDIFFUSION_DATA", "")
    if not path or not Path(path).is_dir():
        pytest.skip("MMDIFFUSION_DATA names no folder with the small data sets")
    source = data.SMALL_SETS[name](path, split)
    assert len(source) == count
    columns = everything(source)
    if per_class:
        assert (np.bincount(columns["label"]) == per_class).all()
    assert 30 < columns["image"].mean() < 220
    if "audio" in columns:
        assert columns["audio"].min() == -1
        assert 0.5 < columns["audio"].max() < 1.1
