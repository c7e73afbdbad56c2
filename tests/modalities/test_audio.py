"""Spectrograms in the latent: where time and frequency go, heads of any grid, pictures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdiffusion_jax.modalities import Audio, Features

AUDIO = Audio(latent=(4, 6, 2), frames=8, mels=12)


def encode(x):
    return np.asarray(jax.jit(AUDIO.bind({}).encode)(jnp.asarray(x, jnp.float32)))


def test_time_runs_along_rows_and_frequency_along_columns():
    x = np.full((2, 8, 12), -1.0)
    x[0, :2, ::4] = 1  # the first two frames of eight, the latent's first row of four
    x[1, :, :2] = 1  # two bands of twelve, the first column of six
    early, low = np.abs(encode(x)).max(-1)
    assert (early[0] > 0.1).all()
    np.testing.assert_allclose(early[2:], 0, atol=1e-5)
    assert (low[:, 0] > 3 * low[:, 2:].max()).all()


def test_a_frame_keeps_the_shape_of_its_spectrum_and_a_tenth_of_its_level():
    x = np.random.default_rng(0).uniform(-1, 1, (3, 8, 12))
    audio = Audio(latent=(8, 12, 1), frames=8, mels=12)  # a cell of the latent for every value
    level = x.mean(2, keepdims=True)
    expected = (x - level) + (level + 1) / 10
    expected /= np.sqrt((expected**2).mean((1, 2), keepdims=True))
    got = jax.jit(audio.bind({}).encode)(jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(got[..., 0], expected, atol=1e-5)


def test_a_coarse_grid_is_enlarged_linearly():
    x = np.random.default_rng(0).uniform(-1, 1, (3, 8, 12))
    audio = Audio(latent=(8, 12, 1), frames=8, mels=12, grid=(4, 6))
    coarse = jax.image.resize(jnp.asarray(x), (3, 4, 6), "linear")
    smooth = np.asarray(jax.image.resize(coarse, (3, 8, 12), "linear"))
    level = jax.image.resize(jnp.asarray(x.mean(2, keepdims=True)), (3, 4, 1), "linear")
    level = np.asarray(jax.image.resize(level, (3, 8, 1), "linear"))
    expected = smooth - 0.9 * level + 0.1
    expected /= np.sqrt((expected**2).mean((1, 2), keepdims=True))
    got = jax.jit(audio.bind({}).encode)(jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(got[..., 0], expected, atol=1e-5)


def test_silence_is_the_origin():
    assert (encode(np.full((1, 8, 12), -1.0)) == 0).all()


@pytest.mark.parametrize("grid", [(2, 3), (4, 6), (3, 5)])
def test_heads_fit_any_grid(grid):
    features = Features(jnp.ones((2, *grid, 4)), jnp.ones((2, 4)))
    head, _ = jax.jit(lambda f: AUDIO.init_with_output(jax.random.key(0), f, method="head"))(
        features
    )
    assert head["mean"].shape == head["log_std"].shape == (2, 8, 12)


def test_pictures_are_upright():
    x = np.full((1, 8, 12), -1.0)
    x[0, 7, 0] = 1  # the last moment, the lowest band
    picture = AUDIO.show(x)[0]
    assert picture.shape == (12, 8, 3)
    assert picture[-1, -1].tolist() == [253, 231, 37]
    assert (picture.reshape(-1, 3)[:-1] == (68, 1, 84)).all()


def test_bad_fields():
    with pytest.raises(ValueError, match="`mels`: got 0, expected 1 or more"):
        Audio(latent=(4, 4, 1), mels=0)


def test_values_are_read_back_from_their_encoding_and_masks_go_with_them():
    audio = Audio(latent=(4, 3, 2), frames=4, mels=6, encoder="values")
    x = np.random.default_rng(0).uniform(-1, 1, (5, 4, 6)).astype(np.float32)
    code = audio.bind({}).encode(jnp.asarray(x))
    head = {"mean": jnp.zeros(x.shape), "log_std": jnp.zeros(x.shape)}
    np.testing.assert_array_equal(audio.reconstruct(code, head)["mean"], x)
    np.testing.assert_array_equal(audio.latent_mask(jnp.asarray(x > 0)), np.asarray(code) > 0)
    assert audio.holds
    assert not AUDIO.holds
    assert AUDIO.reconstruct(code, head) is head
    with pytest.raises(ValueError, match="`mask`: got a part of a spectrogram"):
        AUDIO.latent_mask(jnp.ones((1, 8, 12), bool))


@pytest.mark.parametrize("fields", [{"frames": 8}, {"mels": 3}, {"grid": (2, 2)}])
def test_values_need_a_latent_of_their_size(fields):
    with pytest.raises(ValueError, match="`encoder`: got 'values' for"):
        Audio(latent=(4, 6, 1), encoder="values", **{"frames": 4, "mels": 6, **fields})


def test_the_encoder_of_before_has_the_fields_of_before():
    """Stored latents are known by them."""
    assert "encoder" not in AUDIO.encoder_fields
    values = Audio(latent=(8, 12, 1), frames=8, mels=12, encoder="values")
    assert values.encoder_fields["encoder"] == "values"
