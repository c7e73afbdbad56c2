"""Derived columns: fixed in evaluation, fresh in training, and the same on any number of hosts."""

import itertools

import numpy as np
import pytest

from mmdiffusion_jax import data

COUNT = 72


def cut(rng, x):
    """Where a square is: like a derivation of a real modality, by the shape of x and rows of x."""
    corner = rng.integers(0, 1000, (len(x), 2))
    return np.concatenate([x[:, None], corner], axis=1)


def noisy(rng, x):
    return x + rng.normal(size=x.shape)


PLAIN = data.ArraySource({"x": np.arange(COUNT), "x_present": np.arange(COUNT) % 3 > 0})
DERIVATIONS = {"square": ("x", cut), "noisy": ("x", noisy)}


@pytest.fixture
def source():
    return data.Derived(PLAIN, DERIVATIONS, seed=3)


def rows(batches, count):
    batches = list(itertools.islice(batches, count))
    return {name: np.stack([batch[name] for batch in batches]) for name in batches[0]}


def test_columns_say_what_take_gives(source):
    assert source.columns["square"] == ((3,), np.dtype(np.int64))
    assert source.columns["noisy"] == ((), np.dtype(np.float64))
    assert source.columns["square_present"] == ((), np.dtype(np.bool_))
    assert len(source) == COUNT
    batch = source.take(np.array([5, 3, 5]))
    assert {name: (x.shape[1:], x.dtype) for name, x in batch.items()} == source.columns
    np.testing.assert_array_equal(batch["square"][:, 0], batch["x"])
    np.testing.assert_array_equal(batch["noisy_present"], batch["x_present"])


def test_a_row_has_one_value_in_any_batch(source):
    whole = source.take(np.arange(COUNT))
    assert len(np.unique(whole["square"][:, 1:], axis=0)) > COUNT - 2
    order = np.random.default_rng(0).integers(0, COUNT, 200)
    for part in (order, order[:1], np.array([COUNT - 1]), np.arange(30, 40)):
        for name, x in data.Derived(PLAIN, DERIVATIONS, seed=3).take(part).items():
            np.testing.assert_array_equal(x, whole[name][part])
    other = data.Derived(PLAIN, DERIVATIONS, seed=4).take(np.arange(COUNT))
    assert (other["noisy"] != whole["noisy"]).all()
    alone = data.Derived(PLAIN, {"noisy": DERIVATIONS["noisy"]}, seed=3).take(np.arange(COUNT))
    np.testing.assert_array_equal(alone["noisy"], whole["noisy"])


def test_training_draws_anew_in_every_epoch(source):
    batches = rows(data.train_batches(source, batch_size=8, seed=0), 2 * COUNT // 8)
    np.testing.assert_array_equal(batches["square"][..., 0], batches["x"])
    order = np.argsort(batches["x"].ravel(), kind="stable").reshape(COUNT, 2)
    first, second = batches["noisy"].ravel()[order].T
    assert (first != second).all()
    # By chance alone: uniform corners, and unit variance.
    assert abs(batches["square"][..., 1:].mean() - 499.5) < 60
    assert abs((batches["noisy"] - batches["x"]).std() - 1) < 0.2


def test_a_resumed_run_draws_as_the_whole_one(source):
    whole = rows(data.train_batches(source, batch_size=8, seed=0, num_threads=4), 20)
    rest = rows(data.train_batches(source, batch_size=8, seed=0, start_example=88), 9)
    for name, x in rest.items():
        np.testing.assert_array_equal(x, whole[name][11:])


@pytest.mark.parametrize("count", [2, 4])
def test_an_example_is_the_same_on_any_number_of_processes(source, count):
    whole = rows(data.train_batches(source, batch_size=8, seed=0), 12)
    for places in np.split(np.arange(8), count):
        part = rows(data.train_batches(source, batch_size=8, seed=0, rows=places), 12)
        for name, x in part.items():
            np.testing.assert_array_equal(x, whole[name][:, places])


@pytest.mark.parametrize(
    ("derivations", "seed", "words"),
    [
        ({"y": ("z", cut)}, 0, "`derivations`: got 'z'.*'y' is derived from it"),
        ({"x": ("x", cut)}, 0, "got 'x', which the source has"),
        ({"y": ("x", cut)}, -1, "`seed`: got -1"),
        ({"y": ("x", lambda rng, x: x[:1])}, 0, r"`derivations\['y'\]`: got 1 rows, expected 32"),
    ],
)
def test_bad_derivations(derivations, seed, words):
    with pytest.raises(ValueError, match=words):
        data.Derived(PLAIN, derivations, seed)
