"""Sizes of images and masks against Pillow, NumPy's padding and single blocks."""

import numpy as np
import pytest
from PIL import Image

from mmdiffusion_jax import data

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 12, 16, 3), np.uint8)
MASKS = np.random.default_rng(1).integers(0, 12, (3, 12, 16), np.uint8)


@pytest.mark.parametrize("size", [(6, 8), (3, 4), (12, 16), (0, 0)])
def test_smaller_sizes_are_those_of_pillow(size):
    wanted = size if any(size) else (12, 16)
    images, masks = data.resize_images(IMAGES, size), data.resize_masks(MASKS, size)
    for index in range(3):
        box = Image.fromarray(IMAGES[index]).resize(wanted[::-1], Image.Resampling.BOX)
        nearest = Image.fromarray(MASKS[index]).resize(wanted[::-1], Image.Resampling.NEAREST)
        # Pillow rounds between its two passes as well.
        np.testing.assert_allclose(images[index].astype(int), np.asarray(box, int), atol=1)
        np.testing.assert_array_equal(masks[index], np.asarray(nearest))


def test_larger_sizes_pad_around_the_centre():
    padded = data.resize_images(IMAGES, (14, 19))
    np.testing.assert_array_equal(padded[:, 1:13, 1:17], IMAGES)
    assert padded.sum() == IMAGES.sum()
    mask = data.resize_masks(MASKS, (14, 19), fill=11)
    np.testing.assert_array_equal(mask[:, 1:13, 1:17], MASKS)
    assert (mask == 11).sum() == (MASKS == 11).sum() + 3 * (14 * 19 - 12 * 16)


def test_padding_then_shrinking_is_the_mean_of_the_padded_image():
    images = np.random.default_rng(2).integers(0, 256, (5000, 14, 14, 1), np.uint8)
    got = data.resize_images(images, (8, 8))
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0))).astype(float)
    want = sum(padded[:, i::2, j::2] for i in range(2) for j in range(2)) / 4
    np.testing.assert_array_equal(got, np.floor(want + 0.5))
    masks = images[..., 0]
    np.testing.assert_array_equal(data.resize_masks(masks, (8, 8)), padded[:, 1::2, 1::2, 0])


@pytest.mark.parametrize("size", [(11, 15), (4, 4), (6, 16), (-6, -8), (0, 8), (8,), (6, 8, 3)])
def test_other_sizes_are_refused(size):
    for resize, values in ((data.resize_images, IMAGES), (data.resize_masks, MASKS)):
        with pytest.raises(ValueError, match=r"`size`: got .*choose another size"):
            resize(values, size)


def test_a_source_of_another_size_keeps_its_other_columns_and_their_order():
    """5,000 examples, so that they are gone through in parts; grey images get a channel axis."""
    rng = np.random.default_rng(3)
    columns = {
        "grey": rng.integers(0, 256, (5000, 14, 14)),
        "colour": rng.integers(0, 256, (5000, 16, 8, 3), np.uint8),
        "mask": rng.integers(0, 3, (5000, 14, 14)),
        "label": rng.integers(0, 10, 5000),
        "label_present": rng.integers(0, 2, 5000).astype(bool),
    }
    source = data.resized(data.ArraySource(columns), (8, 8), ["grey"], {"mask": 7})
    got = source.take(np.arange(5000))
    want = data.resize_images(columns["grey"][..., None].astype(np.uint8), (8, 8))
    np.testing.assert_array_equal(got["grey"], want)
    np.testing.assert_array_equal(got["mask"], data.resize_masks(columns["mask"], (8, 8), 7))
    assert (got["mask"] == 7).any()
    for name in ("colour", "label", "label_present"):
        np.testing.assert_array_equal(got[name], columns[name])


def test_absent_images_may_hold_anything():
    images = np.stack([np.full((16, 16), 7), np.full((16, 16), -1)])
    columns = {"image": images, "image_present": np.array([True, False])}
    source = data.resized(data.ArraySource(columns), (8, 8), ["image"], {})
    assert source.take(np.array([0]))["image"].max() == 7


def test_numbers_that_are_no_pixels_are_not_brought_to_another_size():
    source = data.ArraySource({"image": np.full((2, 16, 16), 256)})
    with pytest.raises(ValueError, match=r"`size`: .* for 'image', whose numbers are 256 … 256"):
        data.resized(source, (8, 8), ["image"], {})
