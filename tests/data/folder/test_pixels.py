"""Pictures of every kind, against NumPy and Pillow."""

import io
import math
import os

import numpy as np
import pytest
from PIL import Image, ImageFile

from mmdiffusion_jax.data.folder import pixels
from tests.data.folder.pictures import noise, prepare, save

SIZE = (6, 8)


def read_one(tmp_path, image, name="a.png", **options):
    """The stored pixels of one picture, among others that fill both splits."""
    for other in range(8):
        save(noise(*SIZE, 3), tmp_path / "photos" / f"other{other}.png")
    target = tmp_path / "photos" / name
    grey = options.pop("grey", False)
    save(image, target, **options)
    _, rows = prepare(tmp_path / "photos", tmp_path / "out", grey=grey, size=SIZE)
    return rows[target.stem]["image"]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.png", {}),
        ("a.PNG", {}),
        ("a.jpg", {"quality": 95}),
        ("a.JPEG", {"quality": 80}),
        ("a.webp", {"lossless": True}),
        ("a.webp", {"quality": 80}),
    ],
)
def test_formats(tmp_path, name, options):
    """What is stored is what Pillow decodes; without loss it is what was drawn."""
    drawn = noise(*SIZE, 3)
    stored = read_one(tmp_path, drawn, name, **options)
    decoded = np.asarray(Image.open(tmp_path / "photos" / name).convert("RGB"))
    np.testing.assert_array_equal(stored, decoded)
    if name in ("a.png", "a.PNG") or options.get("lossless"):
        np.testing.assert_array_equal(stored, drawn)


def test_a_file_is_read_by_its_contents(tmp_path):
    """Many a .jpg is a PNG."""
    drawn = noise(*SIZE, 3)
    stored = read_one(tmp_path, drawn, "a.jpg", format="png")
    np.testing.assert_array_equal(stored, drawn)


def test_grey_levels_become_equal_channels(tmp_path):
    drawn = noise(*SIZE)
    np.testing.assert_array_equal(read_one(tmp_path, drawn), drawn[..., None].repeat(3, -1))


def test_colours_become_grey_by_their_luma(tmp_path):
    """ITU-R BT.601: 0.299 R + 0.587 G + 0.114 B."""
    drawn = noise(*SIZE, 3)
    stored = read_one(tmp_path, drawn, grey=True)
    assert stored.shape == (*SIZE, 1)
    luma = drawn @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(stored[..., 0], luma, atol=0.51)


@pytest.mark.parametrize("channels", [2, 4])
def test_transparency_is_laid_over_white(tmp_path, channels):
    drawn = noise(*SIZE, channels)
    stored = read_one(tmp_path, drawn)
    alpha = drawn[..., -1:] / 255
    np.testing.assert_allclose(
        stored, drawn[..., :-1] * alpha + 255 * (1 - alpha) + np.zeros(3), atol=1
    )


def test_a_transparent_place_of_a_palette(tmp_path):
    places = noise(*SIZE, most=4)
    colours = noise(4, 3)
    image = Image.fromarray(places, "L").convert("P")
    image.putdata(places.ravel().tolist())
    image.putpalette(colours.ravel().tolist())
    stored = read_one(tmp_path, image, transparency=2)
    colours[2] = 255
    np.testing.assert_array_equal(stored, colours[places])


def test_sixteen_bits(tmp_path):
    drawn = noise(*SIZE, most=65536, dtype=np.uint16)
    stored = read_one(tmp_path, drawn)
    with Image.open(tmp_path / "photos" / "a.png") as image:
        assert image.mode.startswith("I")
    want = np.round(drawn / 65535 * 255)
    np.testing.assert_array_equal(stored, want[..., None].repeat(3, -1))


def test_one_bit_and_cmyk(tmp_path):
    drawn = noise(*SIZE, most=2).astype(bool)
    stored = read_one(tmp_path, drawn)
    np.testing.assert_array_equal(stored, 255 * drawn[..., None].repeat(3, -1))
    cmyk = Image.new("CMYK", (SIZE[1], SIZE[0]), (0, 255, 255, 0))
    red = read_one(tmp_path / "again", cmyk, "a.jpg", quality=95)
    np.testing.assert_allclose(red, np.broadcast_to((255, 0, 0), red.shape), atol=3)


TURNS = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: np.rot90(x, 2).swapaxes(0, 1),
    8: lambda x: np.rot90(x),
}


@pytest.mark.parametrize("orientation", TURNS)
def test_exif_orientations(tmp_path, orientation):
    """As the standard defines them: where the stored row 0 and column 0 are seen."""
    drawn = noise(6, 6, 3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    save(drawn, tmp_path / "a.png", exif=exif)
    upright = np.asarray(pixels.read_upright(tmp_path / "a.png", 10**6))
    np.testing.assert_array_equal(upright, TURNS[orientation](drawn))


def test_damaged_exif_leaves_a_picture_as_it_lies(tmp_path):
    drawn = noise(5, 6, 3)
    save(drawn, tmp_path / "a.png", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    with pixels.quiet_pillow():
        upright = pixels.read_upright(tmp_path / "a.png", 10**6)
    np.testing.assert_array_equal(np.asarray(upright), drawn)


def test_the_middle_is_cut_out_and_boxes_are_averaged():
    """12 × 20 to 3 × 3: the middle 12 columns, means of 4 × 4 pixels."""
    drawn = noise(12, 20, 3)
    box = pixels.box_of((20, 12), (3, 3), "centre")
    small = pixels.shrink(Image.fromarray(drawn), box, (3, 3))
    means = drawn[:, 4:16].reshape(3, 4, 3, 4, 3).mean((1, 3))
    # Pillow rounds twice, first along rows.
    np.testing.assert_allclose(np.asarray(small), means, atol=1)
    box = pixels.box_of((20, 12), (3, 5), "stretch")
    small = pixels.shrink(Image.fromarray(drawn), box, (3, 5))
    np.testing.assert_allclose(np.asarray(small), drawn.reshape(3, 4, 5, 4, 3).mean((1, 3)), atol=1)


@pytest.mark.parametrize("size", [(3, 4), (5, 7), (1, 1), (9, 30)])
@pytest.mark.parametrize("crop", ["centre", "stretch"])
def test_masks_keep_their_place_under_the_picture(size, crop):
    """Pillow's own nearest pixels of the same box."""
    drawn = noise(13, 17)
    box = pixels.box_of((17, 13), size, crop)
    want = Image.fromarray(drawn).crop(box).resize(size[::-1], Image.Resampling.NEAREST)
    np.testing.assert_array_equal(pixels.nearest(drawn, box, size), np.asarray(want))


@pytest.mark.parametrize("size", [(4, 4), (3, 7), (64, 48), (1, 100)])
@pytest.mark.parametrize("shape", [(4, 4), (17, 3), (3, 17), (1, 1)])
def test_boxes_are_the_largest_of_the_shape(size, shape):
    """By brute force over all whole sides: none of the shape, to a pixel's rounding, is larger."""
    left, top, right, bottom = pixels.box_of(shape[::-1], size, "centre")
    assert 0 <= left < right <= shape[1]
    assert 0 <= top < bottom <= shape[0]
    assert (right - left == shape[1]) or (bottom - top == shape[0])
    assert abs((left + right) - shape[1]) <= 1
    assert abs((top + bottom) - shape[0]) <= 1
    if right - left == shape[1] and bottom - top < shape[0]:
        assert math.isclose(bottom - top, max(1, shape[1] * size[0] / size[1]), abs_tol=0.5)
    if bottom - top == shape[0] and right - left < shape[1]:
        assert math.isclose(right - left, max(1, shape[0] * size[1] / size[0]), abs_tol=0.5)


def test_small_pictures_are_enlarged_smoothly():
    drawn = noise(3, 3, 3)
    large = pixels.shrink(Image.fromarray(drawn), (0, 0, 3, 3), (9, 9))
    want = Image.fromarray(drawn).resize((9, 9), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(np.asarray(large), np.asarray(want))


def jpeg(size=(40, 50)):
    stream = io.BytesIO()
    Image.fromarray(noise(*size, 3)).save(stream, "jpeg")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        (b"", "0 bytes"),
        (b"hello", "no JPEG or PNG or WEBP"),
        (jpeg()[:700], "truncated"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 40, "."),
        (b"RIFF\x10\0\0\0WEBPVP8 \0\0", "."),
    ],
)
def test_files_that_are_no_whole_pictures(tmp_path, contents, words):
    (tmp_path / "a.jpg").write_bytes(contents)
    with pytest.raises(pixels.Unreadable, match=words):
        pixels.read_upright(tmp_path / "a.jpg", 10**6)


def test_other_files_and_links_to_none(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "nothing.jpg")
    for name, words in (("pipe.jpg", "ordinary"), ("link.jpg", "link to none")):
        with pytest.raises(pixels.Unreadable, match=words):
            pixels.read_upright(tmp_path / name, 10**6)


def test_a_bomb_is_not_unpacked(tmp_path, monkeypatch):
    """A file of kilobytes with 900 million pixels: its size is read, and not one pixel."""
    Image.new("1", (30_000, 30_000)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: pytest.fail("it was unpacked"))
    with pixels.quiet_pillow(), pytest.raises(pixels.Unreadable, match="900,000,000 pixels, more"):
        pixels.read_upright(tmp_path / "bomb.png", 100_000_000)
