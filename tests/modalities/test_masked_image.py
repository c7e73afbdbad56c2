"""Masked images: squares, what the encoder sees, and what the likelihood asks for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from mmdiffusion_jax.modalities import Image, MaskedImage, random_squares, restored

LATENT = (8, 6, 3)
MASKED = MaskedImage(latent=LATENT, num_squares=2, square_size=3, source="photo")
PHOTOS = np.random.default_rng(0).integers(0, 256, (5, *LATENT)).astype(np.uint8)


def encode(x):
    variables = MASKED.init(jax.random.key(0), x, method="encode")
    return np.asarray(MASKED.apply(variables, x, method="encode"))


def test_squares_are_squares_and_uniform():
    visible = random_squares(np.random.default_rng(0), 4000, 5, 4, 1, 2)
    corners = [np.argwhere(~one)[0] for one in visible]
    for one, (top, left) in zip(visible[:50], corners):
        want = np.ones((5, 4), bool)
        want[top : top + 2, left : left + 2] = False
        np.testing.assert_array_equal(one, want)
    counts = np.bincount([3 * top + left for top, left in corners], minlength=12)
    assert ((counts - 4000 / 12) ** 2 / (4000 / 12)).sum() < 35  # χ² with 11 degrees, p < 0.001
    several = random_squares(np.random.default_rng(1), 500, 9, 9, 3, 2)
    hidden = (~several).sum((1, 2))
    assert hidden.min() >= 4
    assert hidden.max() == 12


def test_deriving_keeps_the_whole_picture_and_follows_the_generator():
    assert MASKED.derived_from == "photo"
    assert Image(latent=LATENT).derived_from is None
    x = MASKED.derive(np.random.default_rng(3), PHOTOS)
    assert x.shape == (5, *MASKED.columns[0])
    assert x.dtype == np.uint8
    np.testing.assert_array_equal(restored(x), PHOTOS)
    visible = random_squares(np.random.default_rng(3), 5, 8, 6, 2, 3)
    np.testing.assert_array_equal(x[..., 3], 255 * visible)
    MASKED.validate("x", x)


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int64])
def test_pixels_of_any_width_are_the_same_masked_images(dtype):
    photos = PHOTOS // 2  # as int8 holds
    want = MASKED.derive(np.random.default_rng(3), photos)
    got = MASKED.derive(np.random.default_rng(3), photos.astype(dtype))
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, want)


def test_the_encoder_sees_visible_pixels_only():
    x = MASKED.derive(np.random.default_rng(0), PHOTOS)
    hidden = x[..., 3] == 0
    other = np.where(hidden[..., None] & (np.arange(4) < 3), 255 - x, x)
    assert (restored(other) != restored(x)).any()
    encoding = encode(x)
    np.testing.assert_array_equal(encoding, encode(other))
    plain = np.asarray(Image(latent=LATENT).encode(jnp.asarray(PHOTOS)))
    np.testing.assert_allclose(encoding[~hidden], plain[~hidden], atol=1e-6)
    codes = np.unique(encoding[hidden], axis=0)
    assert codes.shape == (1, 3)
    # No pixel has an RMS above one, so hidden is never taken for visible.
    assert np.sqrt((codes**2).mean()) == pytest.approx(1.5, rel=1e-4)


def test_the_target_is_the_whole_picture():
    x = MASKED.derive(np.random.default_rng(0), PHOTOS)
    keys = jax.random.split(jax.random.key(0), 3)
    head = {
        "mean": jax.random.normal(keys[0], PHOTOS.shape),
        "log_std": jax.random.normal(keys[1], PHOTOS.shape),
        "visible_logit": jax.random.normal(keys[2], PHOTOS.shape[:3]),
    }
    visible = x[..., 3] == 255
    p_visible = 1 / (1 + np.exp(-np.asarray(head["visible_logit"], np.float64)))
    of_validity = np.log(np.where(visible, p_visible, 1 - p_visible)).sum((1, 2))
    picture = jax.jit(Image(latent=LATENT).log_prob)(head, jnp.asarray(PHOTOS))
    got = jax.jit(MASKED.log_prob)(head, jnp.asarray(x))
    np.testing.assert_allclose(got, picture + of_validity, rtol=1e-5)
    most_likely = MASKED.most_likely(head)
    np.testing.assert_array_equal(restored(most_likely), Image(latent=LATENT).most_likely(head))
    np.testing.assert_array_equal(most_likely[..., 3], np.where(p_visible > 0.5, 255, 0))


def test_as_a_condition_it_says_nothing_of_hidden_pixels():
    x = MASKED.derive(np.random.default_rng(0), PHOTOS)
    keys = jax.random.split(jax.random.key(0), 3)
    head = {
        "mean": jax.random.uniform(keys[0], PHOTOS.shape, minval=-1.0),
        "log_std": jax.random.uniform(keys[1], PHOTOS.shape, minval=-1.0),
        "visible_logit": jax.random.normal(keys[2], PHOTOS.shape[:3]),
    }
    visible = x[..., 3] == 255
    said = jax.jit(MASKED.condition_log_prob)
    got = said(head, jnp.asarray(x))
    other = np.where(visible[..., None] | (np.arange(4) == 3), x, 255 - x)
    np.testing.assert_array_equal(got, said(head, jnp.asarray(other)))
    # Of a bin 1/127.5 wide; the outermost are open.
    mean, log_std = (np.asarray(head[name], np.float64) for name in ("mean", "log_std"))
    law = scipy.stats.norm(mean, np.exp(log_std))
    centre = PHOTOS / 127.5 - 1
    upper = np.where(PHOTOS == 255, np.inf, centre + 1 / 255)
    lower = np.where(PHOTOS == 0, -np.inf, centre - 1 / 255)
    picture = np.log(law.cdf(upper) - law.cdf(lower))[visible].sum()
    p_visible = 1 / (1 + np.exp(-np.asarray(head["visible_logit"], np.float64)))
    of_validity = np.log(np.where(visible, p_visible, 1 - p_visible)).sum()
    np.testing.assert_allclose(np.sum(got), picture + of_validity, rtol=1e-4)


def test_hidden_pixels_are_shown_black():
    x = MASKED.derive(np.random.default_rng(0), PHOTOS)
    want = np.where(x[0, ..., 3:] == 255, PHOTOS[0], 0)
    np.testing.assert_array_equal(MASKED.show(x)[0], want)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"square_size": 7}, "`square_size`: got 7, expected 1 … 6 in pictures of 8×6"),
        ({"num_squares": 0}, "`num_squares`: got 0, expected 1 or more"),
    ],
)
def test_bad_fields(fields, words):
    with pytest.raises(ValueError, match=words):
        MaskedImage(latent=LATENT, **fields)
