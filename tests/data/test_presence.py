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
