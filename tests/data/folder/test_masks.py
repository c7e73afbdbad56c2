"""Masks of every kind, against the numbers that were drawn."""

import numpy as np
import pytest
from PIL import Image

from tests.data.folder.pictures import grey_png, noise, photos, prepare, save

SIZE = (6, 8)
COLOURS = np.array([(0, 0, 0), (200, 10, 10), (10, 200, 10), (255, 255, 255)], np.uint8)
PALETTE = ((200, 10, 10), (10, 200, 10))


def prepared(tmp_path, draw, **options):
    """The stored masks beside the classes that were drawn: {name: (stored, drawn)}."""
    names = photos(tmp_path / "photos")
    classes = {name: noise(*SIZE, most=3) for name in names}
    for name, drawn in classes.items():
        if (image := draw(drawn)) is not None:
            save(image, tmp_path / "masks" / f"{name}.png")
    summary, rows = prepare(
        tmp_path / "photos", tmp_path / "out", masks=str(tmp_path / "masks"), **options
    )
    return summary, {name: (rows[name], classes[name]) for name in classes}


def in_palette(drawn):
    image = Image.fromarray(drawn).convert("P")
    image.putdata(drawn.ravel().tolist())
    image.putpalette([7, 8, 9, 1, 1, 1, 250, 0, 0])
    return image


@pytest.mark.parametrize(
    "draw",
    [
        lambda drawn: drawn,
        in_palette,
        lambda drawn: drawn.astype(np.uint16),
        lambda drawn: drawn[..., None].repeat(3, -1),
        lambda drawn: np.stack([drawn, np.full_like(drawn, 255)], -1),
    ],
    ids=["grey", "places in a palette", "16 bits", "equal colours", "opaque"],
)
def test_class_numbers_are_kept(tmp_path, draw):
    summary, masks = prepared(tmp_path, draw)
    assert summary.num_mask_classes == 3
    for row, drawn in masks.values():
        assert row["mask"].dtype == np.uint8
        np.testing.assert_array_equal(row["mask"], drawn)


def test_one_bit(tmp_path):
    _, masks = prepared(tmp_path, lambda drawn: drawn == 1)
    for row, drawn in masks.values():
        np.testing.assert_array_equal(row["mask"], drawn == 1)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_grey_levels_of_few_bits(tmp_path, bits):
    """Numbers are those of the file, which Pillow stretches over 0 … 255 where they have 2 or 4."""
    numbers = {name: noise(*SIZE, most=min(2**bits, 200)) for name in photos(tmp_path / "photos")}
    (tmp_path / "masks").mkdir()
    for name, drawn in numbers.items():
        (tmp_path / "masks" / f"{name}.png").write_bytes(grey_png(drawn, bits))
    _, rows = prepare(tmp_path / "photos", tmp_path / "out", masks=str(tmp_path / "masks"))
    for name, drawn in numbers.items():
        np.testing.assert_array_equal(rows[name]["mask"], drawn)


def test_grey_levels_of_few_bits_are_colours_as_they_are_seen(tmp_path):
    photos(tmp_path / "photos")
    (tmp_path / "masks").mkdir()
    drawn = noise(*SIZE, most=4)
    for name in range(12):
        (tmp_path / "masks" / f"{name}.png").write_bytes(grey_png(drawn, 2))
    palette = tuple((level,) * 3 for level in (255, 170, 85, 0))
    masks = str(tmp_path / "masks")
    _, rows = prepare(tmp_path / "photos", tmp_path / "out", masks=masks, palette=palette)
    for row in rows.values():
        np.testing.assert_array_equal(row["mask"], 3 - drawn)


def test_255_is_void_and_no_class(tmp_path):
    summary, masks = prepared(tmp_path, lambda x: np.where(x == 2, 255, x).astype(np.uint8))
    assert summary.num_mask_classes == 2
    for row, drawn in masks.values():
        np.testing.assert_array_equal(row["mask"], np.where(drawn == 2, 255, drawn))


@pytest.mark.parametrize(
    "draw", [lambda x: COLOURS[x], lambda x: Image.fromarray(COLOURS[x]).quantize(4)]
)
def test_colours_of_a_palette(tmp_path, draw):
    """Black is no class of it and so void."""
    _, masks = prepared(tmp_path, draw, palette=PALETTE)
    for row, drawn in masks.values():
        np.testing.assert_array_equal(row["mask"], np.array([255, 0, 1])[drawn])


def test_grey_levels_of_a_palette(tmp_path):
    """0 and 255 as classes, as masks of two classes often have them."""
    _, masks = prepared(
        tmp_path,
        lambda x: np.array([0, 255, 128], np.uint8)[x],
        palette=((255, 255, 255), (0, 0, 0), (128, 128, 128)),
    )
    for row, drawn in masks.values():
        np.testing.assert_array_equal(row["mask"], np.array([1, 0, 2])[drawn])


def test_pictures_without_a_mask(tmp_path):
    left = iter(range(100))
    summary, masks = prepared(tmp_path, lambda drawn: None if next(left) % 3 == 0 else drawn)
    assert summary.missing == {"mask": 4}
    for index, (row, drawn) in enumerate(masks.values()):
        assert row["mask_present"] == (index % 3 != 0)
        np.testing.assert_array_equal(row["mask"], drawn if index % 3 else np.full(SIZE, 255))


def test_masks_are_cut_as_their_pictures(tmp_path):
    """The class of a pixel is its picture's level, before and after."""
    for index in range(10):
        levels = noise(3, 5, most=3).repeat(4, 0).repeat(4, 1)
        save(levels * 100, tmp_path / "photos" / f"{index}.png")
        save(levels, tmp_path / "masks" / f"{index}.png")
    _, rows = prepare(
        *(tmp_path / "photos", tmp_path / "out"),
        masks=str(tmp_path / "masks"),
        size=(3, 3),
        crop="centre",
    )
    for row in rows.values():
        np.testing.assert_array_equal(row["image"][..., 0], row["mask"] * 100)


def test_a_mask_lies_on_the_picture_as_it_is_seen(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    for index in range(10):
        levels = noise(6, 8, most=3)
        save(np.rot90(levels * 100), tmp_path / "photos" / f"{index}.png", exif=exif)
        save(levels, tmp_path / "masks" / f"{index}.png")
    _, rows = prepare(tmp_path / "photos", tmp_path / "out", masks=str(tmp_path / "masks"))
    for row in rows.values():
        np.testing.assert_array_equal(row["image"][..., 0], row["mask"] * 100)


@pytest.mark.parametrize(
    ("draw", "options", "words"),
    [
        (
            lambda x: x[:-1],
            {},
            r"with 5 × 8 pixels and likewise \d+ more of.*expected 6 × 8, as '.*png' has",
        ),
        (lambda x: x.T, {}, "8 × 6 pixels.*as it is seen"),
        (lambda x: COLOURS[x], {}, r"the colour \(.*name their colours by --palette"),
        (lambda x: COLOURS[x] // 2, {"palette": PALETTE}, r"the colour \((100, 5|5, 100), 5\)"),
        (lambda x: x.astype(np.uint16) * 300, {}, "the number (300|600) .*expected 0 to 255"),
        (lambda x: np.stack([x, x * 9], -1), {}, "transparent pixels"),
        (lambda x: (x > 0).astype(np.uint8) * 255, {}, "0, 255 alone.*name it in a --palette"),
        (lambda x: x * 0, {}, "the numbers 0 alone"),
    ],
)
def test_masks_that_are_refused(tmp_path, draw, options, words):
    with pytest.raises(ValueError, match=f"`masks`: got .*{words}"):
        prepared(tmp_path, draw, **options)
    assert not (tmp_path / "out" / "dataset_info.json").exists()


def test_a_damaged_mask_is_listed_and_its_picture_left_out(tmp_path):
    photos(tmp_path / "photos")
    for index in range(12):
        save(noise(*SIZE, most=3), tmp_path / "masks" / f"{index}.png")
    (tmp_path / "masks" / "3.png").write_bytes(b"")
    summary, rows = prepare(tmp_path / "photos", tmp_path / "out", masks=str(tmp_path / "masks"))
    assert summary.skipped == [("3.png", "it is empty, 0 bytes")]
    assert set(rows) == {str(index) for index in range(12) if index != 3}
