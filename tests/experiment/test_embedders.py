"""Embeddings by the network of natural images: made once, kept, and told by their weights."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest

from mmdiffusion_jax import data, experiment, metrics, modalities
from mmdiffusion_jax.data import latents
from mmdiffusion_jax.metrics.features import efficientnet
from tests.experiment.test_checks import COUNT, IMAGES, PRESENT, config_of

SPEC = {"kind": "embedding", "dims": 1280, "head_kind": "cosine"}


class Counting:
    """The network at a small side, of which calls are counted and one may be cut off."""

    def __init__(self):
        self.network = metrics.EfficientNetFeatures.from_package(side=32)
        self.images, self.fails_after = 0, None

    def features(self, network, images):
        if self.fails_after is not None and self.images >= self.fails_after:
            raise KeyboardInterrupt
        self.images += len(images)
        return _features(network, images)


_features = metrics.EfficientNetFeatures.features


@pytest.fixture
def counting(monkeypatch):
    pytest.importorskip("torch")  # reads the weights
    counting = Counting()
    monkeypatch.setattr(metrics, "read_embedder", lambda name: counting.network)
    monkeypatch.setattr(metrics.EfficientNetFeatures, "features", lambda *a: counting.features(*a))
    return counting


@pytest.fixture
def config(tmp_path):
    arrays = {"image": IMAGES, "image_present": PRESENT, "label": np.arange(COUNT) % 10}
    config = config_of(tmp_path, arrays, vector=SPEC)
    config.data.embedder = "efficientnet"
    return config


def test_embeddings_are_unit_features_made_once(config, counting):
    train, _ = experiment.open_data(config)
    rows = np.array([39, 0, 7, 8])
    got = train.take(rows)
    features = _features(counting.network, IMAGES[rows])
    want = features / np.sqrt((features**2).sum(1, keepdims=True))
    np.testing.assert_allclose(got["vector"], want, atol=1e-5)
    np.testing.assert_array_equal(got["vector_present"], PRESENT[rows])
    np.testing.assert_array_equal(got["image"], IMAGES[rows])
    seen = counting.images
    again = experiment.open_data(config)[1].take(rows)
    assert counting.images == seen
    np.testing.assert_array_equal(again["vector"], got["vector"])


def test_a_run_that_is_killed_goes_on(config, counting, monkeypatch):
    """What was made stays, and nothing half-written does."""
    monkeypatch.setattr(latents, "_SHARD", 8)
    counting.fails_after = 130  # batches of 64 images each
    with pytest.raises(KeyboardInterrupt):
        experiment.open_data(config)
    (folder,) = Path(config.data.folder, "embeddings").iterdir()
    assert sorted(file.name for file in folder.iterdir()) == [
        "00000.npy", "00001.npy", "00002.npy", "manifest.json"
    ]  # fmt: skip
    counting.fails_after, counting.images = None, 0
    experiment.open_data(config)
    assert counting.images == 2 * 64


def test_bad_data_are_noticed_before_they_are_embedded(config, counting):
    counting.fails_after = 0
    config.modalities.vector.dims = 128
    with pytest.raises(ValueError, match=r"`config\.modalities\.vector\.dims`: got 128, .* 1280"):
        experiment.open_data(config)
    config.modalities.vector.dims = 1280
    np.savez(config.data.train, image=IMAGES[..., 0], label=np.arange(COUNT))
    with pytest.raises(ValueError, match=r"`train data, image`: got examples of shape \(8, 8\)"):
        experiment.open_data(config)
    image = IMAGES.astype(np.int16)
    image[5] = 300
    np.savez(config.data.train, image=image, label=np.arange(COUNT))
    with pytest.raises(ValueError, match="`train data, image`: got pixels from 0 to 300"):
        experiment.open_data(config)
    np.savez(config.data.train, other=IMAGES)
    with pytest.raises(ValueError, match="`train data`: got the arrays 'other', expected"):
        experiment.open_data(config)


def make_autoencoder():
    """Means of 2 × 2 pixels, which are latents of as many channels as images have."""
    return modalities.Autoencoder(
        lambda x: x.reshape(-1, 4, 2, 4, 2, x.shape[-1]).mean((2, 4)), lambda z: z, "means"
    )


def test_images_are_embedded_and_not_their_latents(config, counting):
    want = experiment.open_data(config)[0].take(np.arange(COUNT))
    config.modalities.image = {
        "kind": "latent_image", "autoencoder": f"{__name__}:make_autoencoder"
    }  # fmt: skip
    config.latent = (4, 4, 1)
    shutil.rmtree(Path(config.data.folder, "embeddings"))
    got = experiment.open_data(config)[0].take(np.arange(COUNT))
    assert got["image"].shape == (COUNT, 4, 4, 1)
    np.testing.assert_array_equal(got["vector"][PRESENT], want["vector"][PRESENT])


def test_latents_that_the_data_hold_are_not_embedded(config, counting):
    arrays = {"image": np.zeros((COUNT, 4, 4, 1), np.float32), "label": np.arange(COUNT) % 10}
    for split in ("train", "test"):
        np.savez(config.data[split], **arrays)
    config.modalities.image = {"kind": "latent_image"}
    config.latent = (4, 4, 1)
    with pytest.raises(ValueError, match=r"`config\.data\.embedder`: got 'efficientnet' .* no im"):
        experiment.open_data(config)


def test_late_examples_are_checked_beside_embeddings_too(config, counting):
    label = np.tile(np.arange(COUNT) % 10, 40)
    label[-1] = 10
    np.savez(config.data.train, image=np.tile(IMAGES, (40, 1, 1, 1)), label=label)
    config.modalities.label = {"kind": "label", "num_classes": 10}
    config.process.weights.label = {"rule": "bump", "scale": 1.0}
    with pytest.raises(ValueError, match="`train data, label`: got"):
        experiment.open_data(config)


def test_its_digest_is_that_of_the_package(config, tmp_path, monkeypatch):
    contents = efficientnet.package_file().read_bytes()
    digests = experiment.data_digests(config)
    assert digests["data.embedder"] == hashlib.sha256(contents).hexdigest()
    assert experiment.local_paths(config).data.embedder == "efficientnet"
    with experiment.hold_workdir(tmp_path / "w", config):
        pass
    file = tmp_path / "updated.pth"
    file.write_bytes(b"other weights")
    monkeypatch.setattr("mmdiffusion_jax.metrics.features.embedder.package_file", lambda: file)
    with pytest.raises(ValueError, match=r"on other contents of data\.embedder"):
        experiment.check_workdir(tmp_path / "w", config)


@pytest.mark.parametrize(
    ("name", "words"),
    [("efficientnett", "got 'efficientnett', where there is no file"), ("efficientnet", "package")],
)
def test_a_network_that_is_not_there(config, monkeypatch, name, words):
    monkeypatch.setattr(efficientnet, "_PACKAGE", "no_such_package")
    config.data.embedder = name
    assert "data.embedder" not in experiment.data_digests(config)
    with pytest.raises(ValueError, match=rf"^`config\.data\.embedder`: .*{words}.*; (fit|install)"):
        experiment.open_data(config)


def test_a_source_with_embeddings_of_its_own_needs_no_network(config, monkeypatch):
    monkeypatch.setattr(efficientnet, "_PACKAGE", "no_such_package")
    stored = np.random.default_rng(0).normal(size=(COUNT, 1280)).astype(np.float32)
    for split in ("train", "test"):
        np.savez(config.data[split], image=IMAGES, vector=stored, label=np.arange(COUNT) % 10)
    train, _ = experiment.open_data(config)
    assert isinstance(train, data.ArraySource)
