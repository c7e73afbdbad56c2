"""Inception features against PyTorch with the same random weights."""

import importlib.util

import numpy as np
import pytest
import torch

from mmdiffusion_jax.metrics import InceptionFeatures
from mmdiffusion_jax.metrics.features import inception
from tests.metrics.features import torch_networks

IMAGES = np.random.default_rng(0).integers(0, 256, (1, 61, 40, 3)).astype(np.uint8)


@pytest.fixture(autouse=True)
def _optimised(monkeypatch):
    # A large network runs for longer unoptimised than it compiles optimised.
    monkeypatch.setattr(inception, "_apply", torch_networks.optimised(inception._apply))


@pytest.fixture(scope="module")
def reference():
    network = torch_networks.Inception()
    return network, *network(IMAGES)


@pytest.fixture(scope="module")
def network(reference):
    return InceptionFeatures.from_tensors({k: v.numpy() for k, v in reference[0].state.items()})


@pytest.mark.long
def test_against_torch(reference, network):
    _, features, logits = reference
    got = network.features(IMAGES)
    assert got.shape == (1, 2048)
    assert got.std() > 0.01
    np.testing.assert_allclose(got, features, rtol=1e-3, atol=1e-3 * features.abs().max())
    want = logits.softmax(dim=1)
    np.testing.assert_allclose(network.probabilities(IMAGES), want, rtol=0.01, atol=1e-6)
    assert network.identity.startswith("inception-v3-2015-12-05-")


@pytest.mark.skipif(
    not importlib.util.find_spec("torch_fidelity"), reason="torch_fidelity is not installed"
)
def test_against_the_package(reference, network, monkeypatch, tmp_path):
    torch_networks.without_torchvision(monkeypatch, "torch_fidelity")
    module = importlib.import_module("torch_fidelity.feature_extractor_inceptionv3")
    state = {**reference[0].state}
    for name in [*state]:
        if name.endswith("bn.weight"):
            state[name.replace("weight", "num_batches_tracked")] = torch.tensor(0)
    state["fc.bias"] = torch.ones(1008)
    torch.save(state, tmp_path / "inception.pth")
    theirs = module.FeatureExtractorInceptionV3(
        "x", ["2048", "logits_unbiased"], feature_extractor_weights_path=tmp_path / "inception.pth"
    )
    features, logits = theirs(torch.tensor(IMAGES).permute(0, 3, 1, 2))
    got = network.features(IMAGES)
    np.testing.assert_allclose(got, features, rtol=1e-3, atol=1e-3 * features.abs().max())
    want = logits.softmax(dim=1)
    np.testing.assert_allclose(network.probabilities(IMAGES), want, rtol=0.01, atol=1e-6)


@pytest.mark.long
def test_a_grey_channel_is_repeated(network):
    grey = IMAGES[:1, ..., :1]
    np.testing.assert_array_equal(
        network.features(grey), network.features(np.repeat(grey, 3, axis=-1))
    )


@pytest.mark.parametrize(
    "images", [IMAGES[..., :2], IMAGES[0], IMAGES[:0], IMAGES.astype(np.float32)]
)
def test_bad_images(network, images):
    with pytest.raises(ValueError, match=r"`images`: got .* expected uint8 of shape \(n, height"):
        network.features(images)


def test_weights_of_another_network():
    with pytest.raises(ValueError, match="got no tensor 'Conv2d_1a_3x3"):
        InceptionFeatures.from_tensors({"features.0.weight": np.zeros(3)})
