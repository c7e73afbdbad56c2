"""The pipeline: the order of examples, resuming, processes, prefetching."""

import itertools

import grain
import jax
import numpy as np
import pytest
from scipy import stats

from mmdiffusion_jax import data


def labels(batches, count):
    return np.concatenate([batch["label"] for batch in itertools.islice(batches, count)])


@pytest.fixture
def source():
    return data.ArraySource({"label": np.arange(24)})


def test_every_epoch_is_another_permutation(source):
    order = labels(data.train_batches(source, batch_size=8, seed=0), 9).reshape(3, 24)
    for epoch in order:
        assert sorted(epoch) == list(range(24))
    assert (order[0] != order[1]).any()
    assert (order[1] != order[2]).any()


def test_a_batch_may_be_larger_than_several_epochs(source):
    order = labels(data.train_batches(source, batch_size=60, seed=0), 2).reshape(5, 24)
    small = labels(data.train_batches(source, batch_size=8, seed=0), 15).reshape(5, 24)
    np.testing.assert_array_equal(order, small)


def test_every_example_comes_at_every_place_as_often():
    """Over many epochs of 6 examples; a chi-squared statistic against its 0.999 quantile."""
    source = data.ArraySource({"label": np.arange(6)})
    epochs = 600
    order = labels(data.train_batches(source, batch_size=6 * epochs, seed=5), 1).reshape(epochs, 6)
    counts = np.array([(order == label).sum(axis=0) for label in range(6)])
    statistic = ((counts - epochs / 6) ** 2 / (epochs / 6)).sum()
    # 25 degrees of freedom: rows and columns of a permutation's table have given sums.
    assert statistic < stats.chi2.ppf(0.999, 25)


def test_order_depends_on_the_seed_alone(source):
    first = labels(data.train_batches(source, batch_size=8, seed=0, num_threads=1), 10)
    for threads in (0, 4):
        again = labels(data.train_batches(source, batch_size=8, seed=0, num_threads=threads), 10)
        np.testing.assert_array_equal(first, again)
    other = labels(data.train_batches(source, batch_size=8, seed=1), 10)
    assert (first != other).any()


def test_threads_read_what_is_not_at_hand(tmp_path, monkeypatch):
    """Small batches in memory need none; large ones and mapped files do."""
    threads = []
    options = grain.ReadOptions

    def record(num_threads, **others):
        threads.append(num_threads)
        return options(num_threads=num_threads, **others)

    monkeypatch.setattr(grain, "ReadOptions", record)
    columns = {"image": np.zeros((64, 128, 128, 1), np.uint8)}
    data.write_npz(tmp_path / "a.npz", columns)
    for source, size in (
        (data.ArraySource(columns), 63),
        (data.ArraySource(columns), 64),
        (data.open_npz(tmp_path / "a.npz"), 2),
    ):
        assert next(data.train_batches(source, batch_size=size, seed=0))["image"].shape[0] == size
    assert threads == [2, 2]


def test_resume_is_the_uninterrupted_run(source):
    whole = labels(data.train_batches(source, batch_size=8, seed=0), 12)
    rest = labels(data.train_batches(source, batch_size=8, seed=0, start_example=56), 5)
    np.testing.assert_array_equal(whole[56:], rest)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_processes_share_the_batches_of_one(source, count):
    whole = labels(data.train_batches(source, batch_size=8, seed=0), 6).reshape(6, 8)
    parts = [
        labels(data.train_batches(source, batch_size=8, seed=0, rows=rows), 6).reshape(6, -1)
        for rows in np.split(np.arange(8), count)
    ]
    np.testing.assert_array_equal(np.hstack(parts), whole)


def test_hosts_read_every_example_of_an_epoch_once(source):
    """Blocks and strides alike: no example twice, none left out."""
    for rows in ([range(0, 8, 2), range(1, 8, 2)], [range(3), range(3, 8)]):
        seen = [
            labels(data.train_batches(source, batch_size=8, seed=3, rows=list(part)), 3)
            for part in rows
        ]
        assert sorted(np.concatenate(seen)) == list(range(24))


def test_evaluation_covers_all_once(source):
    pairs = list(data.eval_batches(source, 10))
    assert {len(batch["label"]) for batch, _ in pairs} == {10}
    seen = np.concatenate([batch["label"][valid] for batch, valid in pairs])
    np.testing.assert_array_equal(seen, np.arange(24))


def test_prefetching_keeps_order_and_end(source):
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    batches = [batch for batch, _ in data.eval_batches(source, 8)]
    moved = [np.asarray(batch["label"]) for batch in data.to_device(batches, device, 8)]
    np.testing.assert_array_equal(np.concatenate(moved), np.arange(24))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": 0}, "`batch_size`: got 0"),
        ({"start_example": 4}, "`start_example`: got 4"),
        ({"rows": [7, 8]}, "`rows`: got .* expected some of 0 … 7, rising"),
        ({"rows": [1, 1]}, "`rows`: got"),
        ({"rows": []}, "`rows`: got"),
    ],
)
def test_bad_options(source, options, words):
    with pytest.raises(ValueError, match=words):
        data.train_batches(source, **{"batch_size": 8, "seed": 0, **options})
