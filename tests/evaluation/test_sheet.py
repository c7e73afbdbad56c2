"""The picture of samples."""

import types

import numpy as np
import pytest

from mmdiffusion_jax import evaluation


def sheet(captions, columns=2):
    pictures = np.zeros((len(captions), 2, 3, 3), np.uint8)
    pictures[:, 0, 0] = (255, 0, 0)
    pictures[:, 1, 2] = (0, 0, 255)
    shown = {"picture": list(pictures), "text": captions}
    modalities = {
        name: types.SimpleNamespace(show=lambda x, name=name: shown[name]) for name in shown
    }
    samples = dict.fromkeys(shown, np.zeros(len(captions)))
    return evaluation.contact_sheet(types.SimpleNamespace(modalities=modalities), samples, columns)


@pytest.mark.parametrize("caption", ["7", "0.12 -0.34 0.56 and quite some more of it"])
def test_cells_hold_their_pictures_and_captions(caption):
    """Pictures are enlarged 24 times and centred; nothing is written across a cell's border."""
    picture = sheet([caption] * 3)
    width, height = picture.shape[1] // 2, picture.shape[0] // 2
    assert picture.dtype == np.uint8
    assert width >= 72 + 4
    for row, column in ((0, 0), (0, 1), (1, 0)):
        cell = picture[row * height : (row + 1) * height, column * width : (column + 1) * width]
        left = width // 2 - 36
        np.testing.assert_array_equal(cell[2, left], (255, 0, 0))
        np.testing.assert_array_equal(cell[2 + 47, left + 71], (0, 0, 255))
        assert (cell[2:50, left : left + 72][:24, 24:] == 0).all()
        assert (cell[:, :2] == 255).all()
        assert (cell[:, -2:] == 255).all()
        assert (cell[50:] < 128).any()
    assert (picture[height:, width:] == 255).all()


def sheet_of(pictures, captions=None):
    shown = {"picture": pictures} | ({} if captions is None else {"text": captions})
    modalities = {
        name: types.SimpleNamespace(show=lambda x, name=name: shown[name]) for name in shown
    }
    samples = dict.fromkeys(shown, np.zeros(len(pictures)))
    return evaluation.contact_sheet(types.SimpleNamespace(modalities=modalities), samples)


@pytest.mark.parametrize(
    "shape",
    [(1, 1), (1, 4000), (4000, 1), (3, 300), (300, 3), (2000, 1500), (257, 257), (64, 1), (1, 64)],
)
def test_pictures_of_any_shape_are_drawn(shape):
    """Every picture is there in its colour, and a hundred fit into a sheet of usual size."""
    picture = sheet_of([np.full((*shape, 3), (200, 30, 10), np.uint8)] * 13)
    assert max(picture.shape[:2]) <= 10 * (256 + 4)
    coloured = (picture == (200, 30, 10)).all(axis=-1)
    assert coloured.sum() >= 13 * 4
    assert (coloured | (picture == 255).all(axis=-1)).all()


def test_a_picture_that_is_made_smaller_keeps_its_mean():
    half = np.zeros((1024, 512, 3), np.uint8)
    half[:, ::2] = 200
    picture = sheet_of([half])
    assert (picture == 100).all(axis=-1).sum() == 256 * 128


@pytest.mark.parametrize("caption", ["", "x" * 5000, "one\ntwo", "日本"])
def test_captions_of_any_length_are_drawn(caption):
    picture = sheet_of([np.zeros((8, 8, 3), np.uint8)] * 2, [caption] * 2)
    assert picture.shape[1] < 10 * 1000


def test_other_alphabets_have_their_letters():
    """Letters that a font lacks are all drawn by one box."""
    drawn = [sheet([letter]) for letter in "жщΩλא"]
    for index, picture in enumerate(drawn):
        for other in drawn[:index]:
            assert picture.shape != other.shape or (picture != other).any()


def test_a_wide_caption_widens_the_cells():
    short, long = (sheet(["1", text]) for text in ("2", "a caption wider than its picture"))
    assert long.shape[1] > short.shape[1]
    assert long.shape[0] == short.shape[0]
