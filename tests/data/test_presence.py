"""Presence masks against NumPy, for sources that are read in several parts."""

import numpy as np
import pytest

from mmdiffusion_jax import data
from mmdiffusion_jax.data import presence

RNG = np.random.default_rng(0)
COLUMNS = {
    "image": np.arange(50),
    "label": np.arange(50),
    "label_present": RNG.integers(0, 2, 50) > 0,
    "mask": np.arange(50),
    "mask_present": RNG.integers(0, 2, 50) > 0,
}
BOTH = COLUMNS["label_present"] & COLUMNS["mask_present"]


@pytest.fixture
def source(monkeypatch):
    monkeypatch.setattr(presence, "_CHUNK", 8)
    return data.ArraySource(COLUMNS)


def test_rows_have_all_of_the_modalities(source):
    want = np.flatnonzero(BOTH)
    assert 8 < len(want) < 50
    np.testing.assert_array_equal(data.present(COLUMNS, ["image", "mask", "label"]), BOTH)
    for limit in (None, 0, 1, 9, len(want), 50):
        got = data.rows_with(source, ["label", "image", "mask"], limit)
        np.testing.assert_array_equal(got, want[:limit])
    np.testing.assert_array_equal(data.rows_with(source, ["image"], 60), np.arange(50))


def test_counts(source):
    want = {name: int(COLUMNS.get(f"{name}_present", np.ones(50)).sum()) for name in COLUMNS}
    names = ("image", "label", "mask")
    assert data.count_present(source, names) == {name: want[name] for name in names}


def test_examples_that_have_all(source):
    got = data.having(source, ["label", "image", "mask"])
    np.testing.assert_array_equal(got.take(np.arange(len(got)))["image"], np.flatnonzero(BOTH))
    assert data.having(source, ["image"]) is source
    assert data.having(source, []) is source


def test_no_example_has_all():
    columns = {"label": np.arange(2), "label_present": np.zeros(2, bool)}
    with pytest.raises(ValueError, match=r"`training data`: got no example, .*\['label'\]"):
        data.having(data.ArraySource(columns), ["label"])


@pytest.mark.parametrize("portion", [0.1, 0.4, 0.5, 0.9])
@pytest.mark.parametrize("count", [1, 5, 20, 49])
def test_few_are_repeated_to_be_a_portion(portion, count):
    """As nearly as whole numbers allow, and no example is lost."""
    columns = {"label": np.arange(50), "label_present": np.arange(50) < count}
    got = data.repeated(data.ArraySource(columns), "label", portion)
    batch = got.take(np.arange(len(got)))
    times = np.bincount(batch["label"], minlength=50)
    assert (times[count:] == 1).all()
    assert len(set(times[:count].tolist())) == 1
    fewer, more = (k * count / (k * count + 50 - count) for k in (times[0] - 1, times[0] + 1))
    assert more > portion
    assert times[0] == 1 or fewer < portion


@pytest.mark.parametrize("portion", [0, 1, 1.5])
def test_portions_that_cannot_be(source, portion):
    with pytest.raises(ValueError, match="`portion`: got"):
        data.repeated(source, "label", portion)


@pytest.mark.parametrize("part", [data.having, lambda x, names: data.repeated(x, *names, 0.9)])
def test_what_is_derived_is_still_drawn_for_each_batch(part):
    columns = {"label": np.zeros(8), "label_present": np.arange(8) < 2}
    noisy = {"noisy": ("label", lambda rng, x: x + rng.normal(size=x.shape))}
    source = part(data.Derived(data.ArraySource(columns), noisy, seed=0), ["label"])
    batches = data.train_batches(source, batch_size=2, seed=0)
    values = np.concatenate([next(batches)["noisy"] for _ in range(6)])
    assert len(set(values.tolist())) == 12
