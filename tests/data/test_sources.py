"""Sources against the arrays and files they were made from, whole and damaged."""

import jax
import numpy as np
import pytest

from mmdiffusion_jax import data

ARRAYS = {
    "image": np.arange(20 * 4, dtype=np.uint8).reshape(20, 4),
    "label": np.arange(20) * 7 % 11,
    "label_present": np.arange(20) % 3 > 0,
}


def test_a_batch_is_the_rows_asked_for():
    source = data.ArraySource(ARRAYS)
    assert len(source) == 20
    assert source.columns["image"] == ((4,), np.dtype(np.uint8))
    batch = source.take(np.array([7, 0, 7]))
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(batch[name], np.stack([array[7], array[0], array[7]]))


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"a": np.zeros(3), "b": np.zeros(4)}, r"lengths \{'a': 3, 'b': 4\}"),
        ({"a": np.zeros((0, 3))}, "no examples"),
        ({"a": np.float32(1)}, r"lengths \{'a': None\}"),
        ({}, "no arrays"),
        ({"a": np.array([None])}, r"\['a'\].*dtype object"),
        ({"a": np.array(["x"])}, "dtype <U1"),
    ],
)
def test_arrays_that_are_no_examples(arrays, words):
    with pytest.raises(ValueError, match=words):
        data.ArraySource(arrays)


def test_parts_that_cannot_be():
    source = data.ArraySource({"label": np.arange(10)})
    for fraction in (0.0, 1.0, -0.1, 0.01, float("nan")):
        with pytest.raises(ValueError, match=r"`fraction`: got .*10 examples"):
            data.split_off(source, fraction, seed=0)
    with pytest.raises(ValueError, match="`seed`: got -1"):
        data.split_off(source, 0.5, seed=-1)
    with pytest.raises(ValueError, match=r"`indices`: got 0 … 10, expected 0 … 9"):
        data.Subset(source, np.array([0, 10]))
    with pytest.raises(ValueError, match=r"`indices`: .*dtype bool"):
        data.Subset(source, np.ones(10, bool))


@pytest.mark.parametrize("dtype", [">i4", ">f4", ">f8", "f2", "u8", np.longdouble, "?"])
def test_numbers_of_every_width_and_byte_order_reach_the_device(dtype):
    source = data.ArraySource({"x": (np.arange(6) % 2).astype(dtype)})
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    batch = source.take(np.arange(6))
    assert batch["x"].dtype == source.columns["x"][1]
    moved = next(data.to_device([batch], device, batch_size=6))["x"]
    np.testing.assert_array_equal(moved, np.arange(6) % 2)
    np.testing.assert_array_equal(jax.jit(lambda x: x)(batch["x"]), np.arange(6) % 2)


def test_what_is_no_number_is_left_out():
    source = data.ArraySource({**ARRAYS, "caption": np.full(20, "words"), "any": np.full(9, None)})
    assert source.columns == data.ArraySource(ARRAYS).columns
    assert set(source.take(np.arange(3))) == set(ARRAYS)
    assert source.left_out == {"caption": "dtype <U5", "any": "dtype object"}
