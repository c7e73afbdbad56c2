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


@pytest.mark.parametrize("portion", [0.1, 0.4, 0.5, 0.56, 0.9])
@pytest.mark.parametrize("count", [1, 5, 20, 23, 49])
def test_few_are_repeated_to_be_a_portion(portion, count):
    """As nearly as whole numbers allow, and no example is lost."""
    columns = {"label": np.arange(50), "label_present": np.arange(50) < count}
    got = data.repeated(data.ArraySource(columns), "label", portion)
    batch = got.take(np.arange(len(got)))
    times = np.bincount(batch["label"], minlength=50)
    assert (times[count:] == 1).all()
    assert len(set(times[:count].tolist())) == 1
    portions = np.array([k * count / (k * count + 50 - count) for k in range(1, 1000)])
    assert times[0] == 1 + np.argmin(np.abs(portions - portion))


def columns_with(**rows):
    """10,000 examples of which those in `rows` have the modality of this name."""
    there = {f"{name}_present": np.isin(np.arange(10_000), each) for name, each in rows.items()}
    return data.ArraySource(
        {"row": np.arange(10_000), **dict.fromkeys(rows, np.ones(10_000)), **there}
    )


def rows_of(source):
    return source.take(np.arange(len(source)))["row"]


def test_the_rows_for_one_portion_are_all_and_then_those_that_have_it_again():
    got = data.repeated(columns_with(label=[7, 9]), "label", 0.0008)
    np.testing.assert_array_equal(rows_of(got), [*range(10_000), *[7, 9] * 3])


@pytest.mark.parametrize(
    ("rows", "portions"),
    [
        ({"label": range(100), "mask": range(100, 200)}, {"label": 0.4, "mask": 0.4}),
        ({"label": range(100), "mask": range(90, 190)}, {"label": 0.3, "mask": 0.5}),
        ({"label": range(10), "mask": range(1000)}, {"label": 0.8, "mask": 0.9}),
        (
            {"label": range(100), "mask": range(50, 300), "audio": range(9000, 9090)},
            {"label": 0.3, "mask": 0.2, "audio": 0.3},
        ),
        # This many have it already, until the others are repeated.
        ({"label": range(100), "mask": range(900, 1500)}, {"label": 0.6, "mask": 0.06}),
    ],
)
def test_several_portions_hold_together(rows, portions):
    source = columns_with(**{name: list(each) for name, each in rows.items()})
    for asked in (portions, dict(reversed(portions.items()))):
        got = data.in_portions(source, asked)
        counts = data.count_present(got, portions)
        for name, portion in portions.items():
            assert counts[name] / len(got) == pytest.approx(portion, abs=0.01)
        assert set(rows_of(got)) == set(range(10_000))


def test_what_has_its_portion_through_another_is_not_repeated_itself():
    """All that have a label have a mask."""
    source = columns_with(label=range(100), mask=range(200))
    got = data.in_portions(source, {"label": 0.5, "mask": 0.1})
    np.testing.assert_array_equal(rows_of(got), rows_of(data.repeated(source, "label", 0.5)))


@pytest.mark.parametrize("portions", [(0.6, 0.5), (0.5, 0.5), (0.3, 0.7), (0.9, 0.9)])
def test_portions_that_cannot_hold_together(portions):
    source = columns_with(label=range(100), mask=range(100, 200))
    with pytest.raises(
        ValueError, match=r"`portions`: got \{'label': .*meet together.*sum below 1"
    ):
        data.in_portions(source, dict(zip(("label", "mask"), portions)))


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
