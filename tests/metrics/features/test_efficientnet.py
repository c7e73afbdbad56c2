"""EfficientNet-Lite0 against the PyTorch network of the same weights, and on photographs."""

import numpy as np
import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet
from sklearn.datasets import load_sample_image

from mmdiffusion_jax.metrics import EfficientNetFeatures
from mmdiffusion_jax.metrics.features import efficientnet

PALACE, DAISY = 698, 985  # classes of ImageNet


@pytest.fixture(scope="module")
def network():
    return EfficientNetFeatures.from_package(side=75)


def test_against_the_package(network):
    theirs = EfficientNet.from_name("efficientnet-lite0", image_size=None).eval()
    theirs.load_state_dict(torch.load(efficientnet.package_file(), weights_only=True))
    maps = {}
    # The last block of each size.
    for index in (0, 2, 4, 10, 15):
        theirs._blocks[index].register_forward_hook(
            lambda _, __, x, index=index: maps.update({index: x})
        )
    x = np.random.default_rng(0).uniform(-1, 1, (2, 75, 75, 3)).astype(np.float32)
    with torch.no_grad():
        tensor = torch.tensor(x).permute(0, 3, 1, 2)
        pooled, logits = theirs.extract_features(tensor).mean((2, 3)), theirs(tensor)
    np.testing.assert_allclose(network.features(x), pooled, atol=1e-4)
    np.testing.assert_allclose(network.probabilities(x), logits.softmax(1), atol=1e-5)
    for got, want in zip(network.feature_maps(x), maps.values(), strict=True):
        np.testing.assert_allclose(got, want.permute(0, 2, 3, 1), atol=1e-3)


@pytest.mark.parametrize(("name", "kind"), [("china.jpg", PALACE), ("flower.jpg", DAISY)])
def test_it_knows_photographs(name, kind):
    """Colours in their order, the right way up, scaled as it was trained."""
    photograph = load_sample_image(name)[:, 106:533]
    probabilities = EfficientNetFeatures.from_package().probabilities(photograph[None])[0]
    assert probabilities.argmax() == kind
    assert probabilities[kind] > 0.15


def test_a_grey_channel_is_repeated(network):
    grey = np.random.default_rng(0).integers(0, 256, (2, 16, 16)).astype(np.uint8)
    np.testing.assert_array_equal(
        network.features(grey), network.features(np.repeat(grey[..., None], 3, axis=-1))
    )


def test_bytes_are_floats_of_the_same_images(network):
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3)).astype(np.uint8)
    np.testing.assert_allclose(
        network.features(images), network.features(images / 127.5 - 1), atol=1e-4
    )


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (np.zeros((1, 8, 8, 2), np.uint8), "2 channels, expected 3"),
        (np.zeros((0, 8, 8, 3), np.uint8), "shape .*, expected"),
        (np.full((1, 8, 8, 3), 2.0), "expected uint8, or finite floats"),
    ],
)
def test_bad_images(network, images, words):
    with pytest.raises(ValueError, match=f"`images`: got .*{words}"):
        network.features(images)


def test_a_package_that_is_missing(monkeypatch):
    monkeypatch.setattr(efficientnet, "_PACKAGE", "no_such_package")
    with pytest.raises(ValueError, match=r"no package 'no_such_package'.*\[features\]"):
        EfficientNetFeatures.from_package()


def test_names_tell_sizes_apart(network):
    assert network.identity.startswith("efficientnet-lite0-")
    assert network.identity != EfficientNetFeatures(network.variables).identity
