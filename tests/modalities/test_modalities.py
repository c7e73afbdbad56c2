"""Image and label: encodings, likelihoods, readings and range checks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image as PillowImage

from mmdiffusion_jax.modalities import Embedding, Image, Label, LatentImage, MaskedImage

LATENT = (4, 4, 1)


def test_label_encodings_have_unit_rms_and_the_expected_one_is_their_mean():
    label = Label(latent=LATENT, num_classes=5)
    params = label.init(jax.random.key(0), jnp.arange(5), method="encode")
    rows = label.apply(params, jnp.arange(5), method="encode")
    np.testing.assert_allclose((rows**2).mean((1, 2, 3)), 1.0, rtol=1e-5)
    logits = jax.random.normal(jax.random.key(1), (3, 5))
    got = label.apply(params, logits, method="expected_encoding")
    want = sum(jax.nn.softmax(logits)[:, k, None, None, None] * rows[k] for k in range(5))
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def interpolated(coarse, height, width):
    """Linear in rows and columns between the cells' centres, by NumPy."""
    for axis, size in ((0, height), (1, width)):
        cells = coarse.shape[axis]
        centres = (np.arange(size) + 0.5) * cells / size - 0.5
        coarse = np.apply_along_axis(
            lambda row, at=centres, n=cells: np.interp(at, np.arange(n), row), axis, coarse
        )
    return coarse


@pytest.mark.parametrize(
    ("modality", "values", "table"),
    [
        (Label(latent=(6, 8, 2), num_classes=3, grid=(2, 4)), np.arange(3), "table"),
        (
            Embedding(latent=(6, 8, 2), dims=3, head_kind="cosine", grid=(2, 4)),
            np.eye(3, dtype=np.float32),
            "kernel",
        ),
    ],
)
def test_a_coarse_grid_is_enlarged_linearly(modality, values, table):
    codes, params = modality.init_with_output(jax.random.key(0), values, method="encode")
    coarse = params["params"][table]
    assert coarse.shape == (3, 2, 4, 2)
    for code, row in zip(codes, coarse, strict=True):
        want = interpolated(np.asarray(row), 6, 8)
        np.testing.assert_allclose(code, want / np.sqrt((want**2).mean()), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [Label, Embedding])
@pytest.mark.parametrize("grid", [(5, 4), (0, 1), (2,)])
def test_a_grid_must_fit_into_the_latent(kind, grid):
    with pytest.raises(ValueError, match=r"`grid`: got .* from \(1, 1\) to \(4, 4\)"):
        kind(latent=LATENT, grid=grid)


def test_label_draws_follow_its_probabilities():
    label = Label(latent=LATENT, num_classes=3)
    logits = jnp.log(jnp.tile(jnp.array([0.2, 0.5, 0.3]), (20_000, 1)))
    counts = np.bincount(label.draw(jax.random.key(0), logits), minlength=3) / 20_000
    np.testing.assert_allclose(counts, [0.2, 0.5, 0.3], atol=0.02)
    assert label.most_likely(logits)[0] == 1
    pooled = label.pool(jnp.stack([logits, jnp.zeros_like(logits)]))
    want = jnp.sqrt(jnp.exp(logits[0]))
    np.testing.assert_allclose(jax.nn.softmax(pooled[0]), want / want.sum(), rtol=1e-5)


@pytest.mark.parametrize("num_levels", [2, 17, 256])
def test_image_levels_survive_the_round_trip_and_their_probabilities_sum_to_one(num_levels):
    image = Image(latent=(num_levels, 1, 1), is_primary=True, num_levels=num_levels)
    levels = np.round(np.arange(num_levels) * 255 / (num_levels - 1)).astype(np.uint8)
    x = jnp.asarray(levels)[None, :, None, None]
    head = {"log_std": jnp.zeros_like(x, jnp.float32)}
    read = image.reconstruct(image.encode(x), head)
    np.testing.assert_array_equal(image.most_likely(read), x)
    one = Image(latent=(1, 1, 1), is_primary=True, num_levels=num_levels)
    pixels = jnp.asarray(levels)[:, None, None, None]
    flat = jnp.full(pixels.shape, 0.2), jnp.full(pixels.shape, -1.0)
    log_prob = jax.jit(one.log_prob)
    mass = jnp.exp(log_prob(dict(zip(("mean", "log_std"), flat, strict=True)), pixels))
    np.testing.assert_allclose(mass.sum(), 1.0, rtol=1e-4)


def test_image_pool_averages_precisions():
    image = Image(latent=LATENT)
    heads = {"mean": jnp.array([[0.0], [1.0]]), "log_std": jnp.log(jnp.array([[1.0], [0.5]]))}
    pooled = image.pool(heads)
    np.testing.assert_allclose(pooled["mean"], [0.8], rtol=1e-5)
    np.testing.assert_allclose(jnp.exp(-2 * pooled["log_std"]), [2.5], rtol=1e-5)


@pytest.mark.parametrize(
    ("modality", "values", "words"),
    [
        (Label(latent=LATENT, num_classes=3), [0, 3], "`labels`: got label 3, expected .* 0 … 2"),
        (Label(latent=LATENT, num_classes=3), [-1, 2], "got label -1"),
        (Image(latent=LATENT), [0, 256], "pixels from 0 to 256"),
    ],
)
def test_values_out_of_range(modality, values, words):
    with pytest.raises(ValueError, match=words):
        modality.validate("labels", np.array(values))


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
