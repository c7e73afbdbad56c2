"""The digits against scikit-learn's own, and a preparation that was damaged or cut off."""

import shutil

import numpy as np
import pytest
from sklearn.datasets import load_digits

from mmdiffusion_jax import data


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return data.digits.prepare(tmp_path_factory.mktemp("tfds"))


@pytest.fixture
def copied(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "digits" / "1.0.0")
    return tmp_path


def contents(path):
    return {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in path.iterdir()}


def test_every_digit_of_scikit_learn_is_in_one_split(folder):
    reference = load_digits()
    rows = {image.astype(int).tobytes(): row for row, image in enumerate(reference.images)}
    assert len(rows) == 1797
    seen = {}
    for split, count in (("train", 1437), ("test", 360)):
        source = data.open_tfds(folder, split)
        batch = source.take(np.arange(len(source)))
        assert batch["image"].shape == (count, 8, 8, 1)
        levels = np.round(batch["image"][..., 0] * (16 / 255)).astype(int)
        seen[split] = [rows[image.tobytes()] for image in levels]
        np.testing.assert_array_equal(batch["label"], reference.target[seen[split]])
        expected = np.bincount(reference.target) * count / 1797
        np.testing.assert_allclose(np.bincount(batch["label"]), expected, atol=1)
    assert sorted(seen["train"] + seen["test"]) == list(range(1797))


def test_levels_are_stored_over_the_whole_range(folder):
    levels = np.arange(17)
    pixels = np.round(levels * 255 / 16).astype(np.uint8)
    np.testing.assert_array_equal(np.round(pixels * (16 / 255)), levels)
    source = data.open_tfds(folder, "train")
    image = source.take(np.arange(len(source)))["image"]
    np.testing.assert_array_equal(np.unique(image), pixels)


def test_the_second_call_only_reads(copied, capfd):
    path = copied / "digits" / "1.0.0"
    before = contents(path)
    assert data.digits.prepare(copied) == str(path)
    assert contents(path) == before
    assert capfd.readouterr().out == ""


def test_another_run_prepares_at_the_same_time_and_is_faster(tmp_path, monkeypatch):
    generate = data.digits.Digits._split_generators
    others = []

    def meanwhile(builder, manager):
        monkeypatch.undo()
        others.append(data.digits.prepare(tmp_path))
        return generate(builder, manager)

    monkeypatch.setattr(data.digits.Digits, "_split_generators", meanwhile)
    path = data.digits.prepare(tmp_path)
    assert others == [path]
    assert [len(data.open_tfds(path, split)) for split in ("train", "test")] == [1437, 360]
    assert [file.name for file in (tmp_path / "digits").iterdir()] == ["1.0.0"]


@pytest.mark.parametrize("how", ["missing", "cut", "flipped", "no metadata", "metadata cut"])
def test_a_damaged_preparation_is_made_again(copied, folder, how):
    path = copied / "digits" / "1.0.0"
    file = next(path.glob("dataset_info.json" if "metadata" in how else "*train*"))
    if how in ("missing", "no metadata"):
        file.unlink()
    elif how == "flipped":
        broken = bytearray(file.read_bytes())
        broken[64 + 40 + 10] ^= 0xFF
        file.write_bytes(broken)
    else:
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert data.digits.prepare(copied) == str(path)
    for split in ("train", "test"):
        ours, theirs = data.open_tfds(path, split), data.open_tfds(folder, split)
        rows = np.arange(len(theirs))
        for name, values in ours.take(rows).items():
            np.testing.assert_array_equal(values, theirs.take(rows)[name])


def test_a_preparation_cut_off_leaves_nothing_that_passes_for_one(tmp_path, monkeypatch):
    whole = data.digits.Digits._generate_examples

    def cut_off(self, pixels, labels, rows):
        yield from whole(self, pixels, labels, rows[:100])
        raise KeyboardInterrupt

    monkeypatch.setattr(data.digits.Digits, "_generate_examples", cut_off)
    with pytest.raises(KeyboardInterrupt):
        data.digits.prepare(tmp_path)
    assert not (tmp_path / "digits" / "1.0.0").exists()
    monkeypatch.undo()
    assert len(data.open_tfds(data.digits.prepare(tmp_path), "train")) == 1437


def test_what_is_not_ours_is_left_alone(copied):
    path = copied / "digits" / "1.0.0"
    (path / "my_notes.txt").write_text("mine")
    assert data.digits.prepare(copied) == str(path)
    (path / "dataset_info.json").unlink()
    with pytest.raises(ValueError, match=r"`data_dir`: .*'my_notes\.txt'.*another folder"):
        data.digits.prepare(copied)
    assert (path / "my_notes.txt").read_text() == "mine"
