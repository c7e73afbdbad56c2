"""Images: grey levels and their probabilities, and pictures of any number of channels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image as PillowImage

from mmdiffusion_jax.modalities import Image, LatentImage, MaskedImage


@pytest.mark.parametrize("num_levels", [2, 17, 256])
def test_image_levels_survive_the_round_trip_and_their_probabilities_sum_to_one(num_levels):
    image = Image(latent=(num_levels, 1, 1), is_primary=True, num_levels=num_levels)
    levels = np.round(np.arange(num_levels) * 255 / (num_levels - 1)).astype(np.uint8)
    x = jnp.asarray(levels)[None, :, None, None]
    head = {"log_std": jnp.zeros_like(x, jnp.float32)}
    judged = image.reconstruct(image.encode(x), head)
    np.testing.assert_array_equal(image.most_likely(judged), x)
    one = Image(latent=(1, 1, 1), is_primary=True, num_levels=num_levels)
    pixels = jnp.asarray(levels)[:, None, None, None]
    flat = jnp.full(pixels.shape, 0.2), jnp.full(pixels.shape, -1.0)
    log_prob = jax.jit(one.log_prob)
    mass = jnp.exp(log_prob(dict(zip(("mean", "log_std"), flat, strict=True)), pixels))
    np.testing.assert_allclose(mass.sum(), 1.0, rtol=1e-4)


def test_every_level_is_the_pixel_that_the_data_may_have():
    """Of NumPy in float64, for all numbers of levels."""
    levels = {n: np.round(np.arange(n) * (255 / (n - 1))) for n in range(2, 257)}
    means = [(pixels / 127.5 - 1).astype(np.float32) for pixels in levels.values()]

    @jax.jit
    def run(means):
        images = (Image(latent=(1, 1, 1), num_levels=n) for n in levels)
        return [image.in_data_units(mean) for image, mean in zip(images, means, strict=True)]

    for (num_levels, pixels), read in zip(levels.items(), run(means), strict=True):
        assert read.dtype == np.uint8
        np.testing.assert_array_equal(read, pixels)
        Image(latent=(1, 1, 1), num_levels=num_levels).validate("image", np.asarray(read))


def drawn_by_pillow(pixels, mode):
    """Over white, by another library."""
    picture = PillowImage.fromarray(pixels, mode).convert("RGBA")
    white = PillowImage.new("RGBA", picture.size, "white")
    return np.asarray(PillowImage.alpha_composite(white, picture).convert("RGB")).astype(int)


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (2, "LA"), (3, "RGB"), (4, "RGBA")])
def test_channels_are_shown_as_pillow_draws_them(channels, mode):
    x = np.random.default_rng(0).integers(0, 256, (2, 5, 6, channels)).astype(np.uint8)
    image = Image(latent=(5, 6, channels))
    for pixels, shown in zip(x, image.show(x), strict=True):
        want = drawn_by_pillow(pixels[..., 0] if channels == 1 else pixels, mode)
        assert shown.dtype == np.uint8
        np.testing.assert_allclose(shown.astype(int), want, atol=1)


@pytest.mark.parametrize("channels", range(8))
def test_any_number_of_channels_is_shown(channels):
    shape = (4, 4, channels)
    x = np.random.default_rng(0).integers(0, 256, (2, *shape)).astype(np.int64)
    masked = np.concatenate([x, np.zeros((2, 4, 4, 1), np.int64)], axis=-1)
    masked[:, :2, :, -1] = 255
    plain = Image(latent=shape).show(x)
    hidden = MaskedImage(latent=shape).show(masked)
    latent = LatentImage(latent=shape).show(x / 255)
    for pictures in (plain, hidden, latent):
        assert [(picture.shape, picture.dtype) for picture in pictures] == [
            ((4, 4, 3), np.uint8)
        ] * 2
    np.testing.assert_array_equal(hidden[0][:2], plain[0][:2])
    assert (hidden[0][2:] == 0).all()
    if channels > 4:
        np.testing.assert_array_equal(plain[0], x[0, ..., :3])
