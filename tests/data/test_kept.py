"""Scarce data: which examples keep a modality."""

import numpy as np
import pytest

from mmdiffusion_jax import data

SOURCE = data.ArraySource(
    {
        "image": np.arange(400).reshape(200, 2).astype(np.uint8),
        "label": np.repeat(np.arange(10), 20),
        "mask": np.zeros((200, 3), np.int32),
        "mask_present": np.arange(200) < 150,
    }
)
EVERY = np.arange(200)


@pytest.mark.parametrize("count", [10, 50, 53, 200])
def test_classes_keep_equally_many(count):
    batch = data.Kept(SOURCE, "label", count).take(EVERY)
    counts = np.bincount(batch["label"][batch["label_present"]], minlength=10)
    assert counts.sum() == count
    assert counts.max() - counts.min() <= 1


def test_what_lacks_it_already_does_not_get_it():
    batch = data.Kept(SOURCE, "mask", 100, seed=3).take(EVERY)
    assert batch["mask_present"].sum() == 100
    assert not batch["mask_present"][150:].any()


def test_rows_do_not_depend_on_how_they_are_taken_and_other_seeds_take_others():
    one, other = (data.Kept(SOURCE, "label", 50, seed=seed) for seed in (0, 1))
    whole = one.take(EVERY)["label_present"]
    np.testing.assert_array_equal(one.take(EVERY[::-3])["label_present"], whole[::-3])
    assert (other.take(EVERY)["label_present"] != whole).any()
    assert one.columns["label_present"] == ((), np.dtype(bool))
    assert len(one) == 200


@pytest.mark.parametrize("seed", [0, 1])
def test_the_order_of_training_does_not_begin_with_what_is_kept(seed):
    """Both are drawn by numbers, which are often 0."""
    source = data.Kept(SOURCE, "image", 20, seed)
    batch = next(data.train_batches(source, batch_size=20, seed=seed))
    assert batch["image_present"].sum() < 10


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("labl", 5), "`kept`: got 'labl'.*did you mean 'label'"),
        (("label", 201), "`kept.label`: got 201, expected 1 … 200"),
        (("mask", 151), "`kept.mask`: got 151, expected 1 … 150"),
        (("label", 5, -1), "`seed`: got -1"),
    ],
)
def test_what_cannot_be_kept(arguments, words):
    with pytest.raises(ValueError, match=words):
        data.Kept(SOURCE, *arguments)
