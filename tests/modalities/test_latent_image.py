"""Latent images with an orthonormal autoencoder, which loses nothing."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from ml_collections import ConfigDict

from mmdiffusion_jax import experiment, modalities

BASIS = np.linalg.qr(np.random.default_rng(0).normal(size=(48, 48)))[0].astype(np.float32)
IMAGES = np.random.default_rng(1).integers(0, 256, (5, 4, 4, 3), np.uint8)
LATENT = (2, 2, 12)


def orthonormal():
    return modalities.Autoencoder(
        encode=lambda x: (x.reshape(-1, 48) @ BASIS).reshape(-1, *LATENT),
        decode=lambda z: (z.reshape(-1, 48) @ BASIS.T).reshape(-1, 4, 4, 3),
        identity="orthonormal",
    )


def nothing():
    return None


PATH = f"{__name__}:orthonormal"


def test_pictures_survive_the_latent_space():
    latent = modalities.LatentImage(latent=LATENT, autoencoder=orthonormal(), scale=0.5)
    x = latent.encode_images(IMAGES)
    want = (IMAGES.reshape(5, 48) / 127.5 - 1) @ BASIS
    np.testing.assert_allclose(x.reshape(5, 48), want, atol=1e-5)
    np.testing.assert_array_equal(latent.decode(x), IMAGES)
    np.testing.assert_array_equal(np.stack(latent.show(x)), IMAGES)
    read = latent.reconstruct(latent.encode(x), {"log_std": jnp.zeros(x.shape)})
    np.testing.assert_array_equal(latent.decode(latent.most_likely(read)), IMAGES)


def test_density_is_that_of_the_latent_itself():
    latent = modalities.LatentImage(latent=LATENT, shift=0.3, scale=2.5)
    x = np.random.default_rng(2).normal(size=(3, *LATENT))
    head = {"mean": jnp.full((3, *LATENT), 0.2), "log_std": jnp.full((3, *LATENT), -0.4)}
    want = scipy.stats.norm.logpdf(x, 0.3 + 0.2 / 2.5, np.exp(-0.4) / 2.5).sum((1, 2, 3))
    np.testing.assert_allclose(latent.log_prob(head, jnp.asarray(x)), want, rtol=1e-5)


def test_latents_show_without_an_autoencoder():
    latent = modalities.LatentImage(latent=LATENT, shift=1.0, scale=2.0)
    x = np.full((1, *LATENT), 2.0)
    assert (latent.show(x)[0] == 255).all()
    assert (latent.show(x - 1)[0] == 128).all()
    with pytest.raises(ValueError, match="`autoencoder`: got none"):
        latent.decode(x)


def test_an_encoder_is_known_by_its_autoencoders_identity():
    """However the autoencoder is given; another one, shift or scale is another encoder."""
    latent = modalities.LatentImage(latent=LATENT, autoencoder=PATH)
    same = latent.clone(autoencoder=orthonormal())
    assert latent.encoder_fields == same.encoder_fields
    trained_on = dataclasses.replace(orthonormal(), identity="orthonormal, trained on")
    others = [{"autoencoder": trained_on}, {"autoencoder": ""}, {"shift": 0.1}, {"scale": 2.0}]
    for other in others:
        assert latent.clone(**other).encoder_fields != latent.encoder_fields
    with pytest.raises(ValueError, match="which cannot be imported"):
        latent.clone(autoencoder="no_such_module:f").encoder_fields  # noqa: B018


def test_a_successor_has_the_same_autoencoder():
    latent = modalities.LatentImage(latent=LATENT, autoencoder=PATH)
    latent.check_successor("image", latent.clone(autoencoder=orthonormal()))
    other = latent.clone(autoencoder=dataclasses.replace(orthonormal(), identity="other"))
    without = latent.clone(autoencoder="")
    for old, new, words in (
        (latent, other, "got one of identity 'other', expected that of identity 'orthonormal'"),
        (latent, without, "got none, expected that of identity 'orthonormal', as deployed"),
        (without, latent, "got one of identity 'orthonormal', expected none, as deployed"),
    ):
        with pytest.raises(ValueError, match=rf"`config.modalities.image.autoencoder`: {words}"):
            old.check_successor("image", new)


@pytest.fixture
def config(tmp_path):
    config = experiment.default_config()
    config.data.source, config.data.folder = "npz", str(tmp_path)
    for split in ("train", "test"):
        config.data[split] = str(tmp_path / f"{split}.npz")
        np.savez(config.data[split], image=IMAGES)
    config.latent = LATENT
    config.modalities = ConfigDict({"image": {"kind": "latent_image", "autoencoder": PATH}})
    return config


def test_a_config_encodes_its_images_once(config, tmp_path):
    for _ in range(2):
        train, _ = experiment.open_data(config)
        latent = experiment.build(config).model.modalities["image"]
        np.testing.assert_array_equal(latent.decode(train.take(np.arange(5))["image"]), IMAGES)
    assert len(list((tmp_path / "latents").iterdir())) == 1


def test_a_config_takes_stored_latents(config):
    latent = modalities.LatentImage(latent=LATENT, autoencoder=PATH)
    x = latent.encode_images(IMAGES)
    for split in ("train", "test"):
        np.savez(config.data[split], image=x)
    config.modalities.image.autoencoder = ""
    np.testing.assert_array_equal(experiment.open_data(config)[1].take(np.arange(5))["image"], x)


@pytest.mark.parametrize(
    ("autoencoder", "words"),
    [
        ("", "`autoencoder`: got none"),
        ("no_such_module:f", "'no_such_module:f', which cannot be imported"),
        (f"{__name__}:f", "has no attribute 'f'"),
        (__name__, "no colon in it"),
        (f"{__name__}:nothing", "which returns NoneType, expected an Autoencoder"),
    ],
)
def test_bad_autoencoders(config, autoencoder, words):
    config.modalities.image.autoencoder = autoencoder
    with pytest.raises(ValueError, match=words):
        experiment.open_data(config)


def test_latents_of_another_shape_and_bad_scales(config):
    config.latent = (4, 4, 3)
    with pytest.raises(ValueError, match=r"latents of shape \(2, 2, 12\) for images of \(4, 4, 3"):
        experiment.open_data(config)
    config.modalities.image.scale = 0.0
    with pytest.raises(ValueError, match=r"`config\.modalities\.image\.scale`: got 0\.0"):
        experiment.build(config)
