"""Sources, the digits and the pipeline: real files, damaged files, and the order of examples."""

import itertools

import jax
import numpy as np
import pytest
from sklearn.datasets import load_digits

from mmdiffusion_jax import data


@pytest.fixture(scope="module")
def digits_folder(tmp_path_factory):
    return data.digits.prepare(tmp_path_factory.mktemp("tfds"))


def labels(batches, count):
    return np.concatenate([batch["label"] for batch in itertools.islice(batches, count)])


def test_digits_are_scikit_learns_split_by_class(digits_folder):
    reference = load_digits()
    rows = {
        (image.astype(int).tobytes(), int(k))
        for image, k in zip(reference.images, reference.target)
    }
    seen = []
    for split, count in (("train", 1437), ("test", 360)):
        source = data.open_tfds(digits_folder, split)
        assert len(source) == count
        batch = source.take(np.arange(count))
        levels = np.round(batch["image"][..., 0] * (16 / 255)).astype(int)
        pairs = [(image.tobytes(), int(k)) for image, k in zip(levels, batch["label"])]
        assert set(pairs) <= rows
        seen += pairs
        share = np.bincount(batch["label"]) / count
        np.testing.assert_allclose(share, np.bincount(reference.target) / 1797, atol=0.01)
    assert sorted(seen) == sorted(
        (image.astype(int).tobytes(), int(k))
        for image, k in zip(reference.images, reference.target)
    )


def test_a_damaged_preparation_is_made_again(tmp_path):
    folder = data.digits.prepare(tmp_path)
    record = next(iter(sorted((tmp_path / "digits" / "1.0.0").glob("*train*"))))
    record.unlink()
    with pytest.raises(ValueError, match=r"split 'train' cannot be read|readable metadata"):
        data.open_tfds(folder, "train")
    assert data.digits.prepare(tmp_path) == folder
    assert len(data.open_tfds(folder, "train")) == 1437


def test_records_on_access_equal_those_in_memory(digits_folder):
    memory = data.open_tfds(digits_folder, "test")
    lazy = data.open_tfds(digits_folder, "test", max_in_memory_bytes=0)
    assert isinstance(memory, data.ArraySource)
    assert isinstance(lazy, data.RecordSource)
    assert lazy.columns == memory.columns
    rows = np.array([5, 0, 359])
    for name, values in lazy.take(rows).items():
        np.testing.assert_array_equal(values, memory.take(rows)[name])


def test_tfds_errors(digits_folder, tmp_path):
    with pytest.raises(ValueError, match=r"has no dataset_info\.json"):
        data.open_tfds(tmp_path, "train")
    with pytest.raises(ValueError, match=r"`split`: got 'tran'.*did you mean 'train'"):
        data.open_tfds(digits_folder, "tran")


def test_npz_round_trip(tmp_path):
    arrays = {"image": np.arange(24).reshape(2, 3, 4), "label": np.array([1, 2])}
    np.savez_compressed(tmp_path / "mine.npz", **arrays, label_present=np.array([True, False]))
    source = data.open_npz(tmp_path / "mine.npz")
    np.testing.assert_array_equal(source.take(np.array([1]))["image"], arrays["image"][1:])
    assert source.columns["label_present"] == ((), np.dtype(bool))


def damage(path, how):
    whole = path.read_bytes()
    if how == "empty":
        path.write_bytes(b"")
    elif how == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif how == "flipped":
        middle = len(whole) // 2
        path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 0xFF]) + whole[middle + 1 :])
    return path.read_bytes()


@pytest.mark.parametrize("how", ["empty", "cut", "flipped"])
def test_damaged_npz_is_named_and_left_alone(tmp_path, how):
    path = tmp_path / "mine.npz"
    np.savez(path, image=np.random.default_rng(0).integers(0, 255, (50, 8, 8, 1), np.uint8))
    before = damage(path, how)
    with pytest.raises(ValueError, match=r"mine\.npz.*cannot be read.*numpy\.savez"):
        data.open_npz(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"a": np.zeros(3), "b": np.zeros(4)}, "arrays of lengths"),
        ({"a": np.zeros((0, 3))}, "no examples"),
        ({}, "no arrays"),
        ({"a": np.array(["x"])}, "dtype <U1"),
        ({"a": np.zeros(2), "a_present": np.zeros(2)}, "expected booleans"),
    ],
)
def test_npz_contents(tmp_path, arrays, words):
    np.savez(tmp_path / "mine.npz", **arrays)
    with pytest.raises(ValueError, match=words):
        data.open_npz(tmp_path / "mine.npz")
    with pytest.raises(ValueError, match=r"did you mean 'mine\.npz'"):
        data.open_npz(tmp_path / "mien.npz")


@pytest.fixture
def source():
    return data.ArraySource({"label": np.arange(24)})


def test_every_epoch_is_another_permutation(source):
    order = labels(data.train_batches(source, batch_size=8, seed=0), 9).reshape(3, 24)
    for epoch in order:
        assert sorted(epoch) == list(range(24))
    assert (order[0] != order[1]).any()
    assert (order[1] != order[2]).any()


def test_order_depends_on_the_seed_alone(source):
    first = labels(data.train_batches(source, batch_size=8, seed=0, num_threads=1), 10)
    again = labels(data.train_batches(source, batch_size=8, seed=0, num_threads=4), 10)
    other = labels(data.train_batches(source, batch_size=8, seed=1), 10)
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_resume_is_the_uninterrupted_run(source):
    whole = labels(data.train_batches(source, batch_size=8, seed=0), 12)
    rest = labels(data.train_batches(source, batch_size=8, seed=0, start_example=56), 5)
    np.testing.assert_array_equal(whole[56:], rest)


@pytest.mark.parametrize("count", [2, 4])
def test_processes_share_the_batches_of_one(source, count):
    whole = labels(data.train_batches(source, batch_size=8, seed=0), 6).reshape(6, 8)
    parts = [
        labels(
            data.train_batches(source, batch_size=8, seed=0, process_index=i, process_count=count),
            6,
        ).reshape(6, 8 // count)
        for i in range(count)
    ]
    np.testing.assert_array_equal(np.sort(np.hstack(parts)), np.sort(whole))


def test_evaluation_covers_all_once(source):
    pairs = list(data.eval_batches(source, 10))
    assert {len(batch["label"]) for batch, _ in pairs} == {10}
    seen = np.concatenate([batch["label"][valid] for batch, valid in pairs])
    np.testing.assert_array_equal(seen, np.arange(24))


def test_prefetching_keeps_order_and_end(source):
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    batches = [batch for batch, _ in data.eval_batches(source, 8)]
    moved = [np.asarray(batch["label"]) for batch in data.to_device(batches, device)]
    np.testing.assert_array_equal(np.concatenate(moved), np.arange(24))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": 0}, "`batch_size`: got 0"),
        ({"batch_size": 9, "process_count": 2}, "`batch_size`: got 9"),
        ({"start_example": 4}, "`start_example`: got 4"),
        ({"process_index": 1}, "`process_index`: got 1"),
    ],
)
def test_bad_options(source, options, words):
    with pytest.raises(ValueError, match=words):
        data.train_batches(source, **{"batch_size": 8, "seed": 0, **options})
