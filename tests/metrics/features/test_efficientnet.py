"""EfficientNet-Lite0 against the PyTorch network of the same weights, and on photographs."""

import os

import numpy as np
import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet
from scipy.ndimage import gaussian_filter
from sklearn.datasets import load_sample_image

from mmdiffusion_jax import data
from mmdiffusion_jax.metrics import EfficientNetFeatures, perceptual_distance
from mmdiffusion_jax.metrics.features import efficientnet

PALACE, DAISY = 698, 985  # classes of ImageNet


@pytest.fixture(scope="module")
def network():
    return EfficientNetFeatures.from_package(side=75)


@pytest.fixture
def package():
    """The network of the package, and {block: its maps of each call}, of the last of each size."""
    theirs = EfficientNet.from_name("efficientnet-lite0", image_size=None).eval()
    theirs.load_state_dict(torch.load(efficientnet.package_file(), weights_only=True))
    maps = {}
    for index in (0, 2, 4, 10, 15):
        theirs._blocks[index].register_forward_hook(
            lambda _, __, x, index=index: maps.setdefault(index, []).append(x)
        )
    return theirs, maps


def test_against_the_package(network, package):
    theirs, maps = package
    x = np.random.default_rng(0).uniform(-1, 1, (2, 75, 75, 3)).astype(np.float32)
    with torch.no_grad():
        tensor = torch.tensor(x).permute(0, 3, 1, 2)
        pooled, logits = theirs.extract_features(tensor).mean((2, 3)), theirs(tensor)
    np.testing.assert_allclose(network.features(x), pooled, atol=1e-4)
    np.testing.assert_allclose(network.probabilities(x), logits.softmax(1), atol=1e-5)
    for got, want in zip(network.feature_maps(x), maps.values(), strict=True):
        np.testing.assert_allclose(got, want[-1].permute(0, 2, 3, 1), atol=1e-3)


@pytest.mark.parametrize(("name", "kind"), [("china.jpg", PALACE), ("flower.jpg", DAISY)])
def test_it_knows_photographs(name, kind):
    """Colours in their order, the right way up, scaled as it was trained."""
    photograph = load_sample_image(name)[:, 106:533]
    probabilities = EfficientNetFeatures.from_package().probabilities(photograph[None])[0]
    assert probabilities.argmax() == kind
    assert probabilities[kind] > 0.15


@pytest.fixture(scope="module")
def crops():
    """Three of each of two photographs."""
    places = [(100, 60), (220, 260), (300, 420)]
    photographs = [load_sample_image(name) for name in ("china.jpg", "flower.jpg")]
    return np.stack([x[i : i + 64, j : j + 64] for x in photographs for i, j in places])


def with_squares(images, count):
    """Grey squares of 16 pixels, which a larger number has too."""
    hidden = images.copy()
    for i, j in ((24, 24), (0, 0), (48, 40), (4, 44))[:count]:
        hidden[:, i : i + 16, j : j + 16] = 128
    return hidden


def test_the_distance_is_that_of_the_maps_of_the_package(network, package):
    """By PyTorch's maps, place by place: 2 − 2 cos of the channels, mean of places, of maps."""
    theirs, maps = package
    x = np.random.default_rng(0).uniform(-1, 1, (2, 75, 75, 3)).astype(np.float32)
    y = np.clip(x + 0.3 * np.random.default_rng(1).normal(size=x.shape), -1, 1).astype(np.float32)
    with torch.no_grad():
        for images in (x, y):
            theirs.extract_features(torch.tensor(images).permute(0, 3, 1, 2))
    cosines = [torch.cosine_similarity(a, b, dim=1).mean((1, 2)) for a, b in maps.values()]
    want = 2 - 2 * torch.stack(cosines).mean(0)
    np.testing.assert_allclose(perceptual_distance(network, x, y), want, atol=1e-4)


def test_the_distance_is_one_of_images(network, crops):
    other = np.roll(crops, 1, axis=0)
    assert (perceptual_distance(network, crops, crops) == 0).all()
    there, back = (perceptual_distance(network, *pair) for pair in ((crops, other), (other, crops)))
    np.testing.assert_allclose(there, back, atol=1e-6)
    assert (there > 0).all()


@pytest.mark.parametrize(
    "harmed",
    [
        lambda x, k: (
            gaussian_filter(x.astype(float), (0, k / 2, k / 2, 0)).round().astype(np.uint8)
        ),
        with_squares,
    ],
    ids=["blurred", "hidden"],
)
def test_more_harm_is_further_away(network, crops, harmed):
    """On the mean of the photographs, and the worst is nearer than another photograph."""
    distances = [perceptual_distance(network, crops, harmed(crops, k)).mean() for k in range(5)]
    assert distances[0] == 0
    assert (np.diff(distances) > 0).all()
    assert distances[-1] < perceptual_distance(network, crops, np.roll(crops, 3, axis=0)).mean()


@pytest.mark.skipif("MMDIFFUSION_DATA" not in os.environ, reason="MMDIFFUSION_DATA is not set")
@pytest.mark.parametrize("name", ["cifar10", "camvid"])
def test_how_the_distance_ranks_small_photographs(name):
    """Brighter, one square, blurred, another image, no image at all."""
    source = data.SMALL_SETS[name](os.environ["MMDIFFUSION_DATA"], "test", (0, 0))
    x = source.take(np.linspace(0, len(source) - 1, 12).astype(int))["image"]
    side = x.shape[1] // 4
    square = x.copy()
    square[:, side : 2 * side, side : 2 * side] = 128
    shuffled = np.random.default_rng(0).permutation(x.reshape(12, -1, 3), axis=1).reshape(x.shape)
    ranked = (
        np.clip(x * 1.1, 0, 255).astype(np.uint8),
        square,
        gaussian_filter(x, (0, 1, 1, 0)),
        np.roll(x, 1, axis=0),
        shuffled,
    )
    network = EfficientNetFeatures.from_package()
    distances = [perceptual_distance(network, x, y).mean() for y in ranked]
    assert sorted(distances) == distances


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


def test_a_larger_network_of_the_same_names_is_refused():
    """EfficientNet-B0 has all of Lite0's tensors, and squeeze-and-excitation between them."""
    theirs = EfficientNet.from_name("efficientnet-b0")
    tensors = {name: value.numpy() for name, value in theirs.state_dict().items()}
    with pytest.raises(
        ValueError, match=r"`weights`: got '_blocks\.\d+\._se_.*which this network la"
    ):
        EfficientNetFeatures.from_tensors(tensors)
    lite = {name: value for name, value in tensors.items() if "._se_" not in name}
    assert any(name.endswith("num_batches_tracked") for name in lite)
    EfficientNetFeatures.from_tensors(lite)


def test_a_package_that_is_missing(monkeypatch):
    monkeypatch.setattr(efficientnet, "_PACKAGE", "no_such_package")
    with pytest.raises(ValueError, match=r"no package 'no_such_package'.*\[features\]"):
        EfficientNetFeatures.from_package()


def test_names_tell_sizes_apart(network):
    assert network.identity.startswith("efficientnet-lite0-")
    assert network.identity != EfficientNetFeatures(network.variables).identity
