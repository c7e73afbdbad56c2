"""Networks of embeddings by their names: the installed one, files, and what is neither."""

import numpy as np
import pytest

from mmdiffusion_jax import metrics
from mmdiffusion_jax.metrics.features import efficientnet


def test_a_small_classifier_by_its_file(tmp_path):
    file = tmp_path / "network.safetensors"
    images, labels = np.zeros((4, 8, 8), np.uint8), np.array([0, 1, 0, 1])
    network = metrics.fit_classifier(images, labels, num_steps=1, num_features=6)
    network.save(file)
    assert metrics.read_embedder(str(file)).identity == network.identity
    assert metrics.embedder_file(str(file)) == file
    assert network.features(images).shape[1] == network.num_features == 6


def test_the_network_of_natural_images_by_its_word():
    pytest.importorskip("torch")  # reads the weights
    network = metrics.read_embedder(metrics.EFFICIENTNET)
    assert network.identity == metrics.EfficientNetFeatures.from_package().identity
    assert metrics.embedder_file(metrics.EFFICIENTNET) == efficientnet.package_file()
    small = metrics.EfficientNetFeatures(network.variables, side=32)
    assert small.features(np.zeros((1, 8, 8), np.uint8)).shape == (1, network.num_features)


def test_what_is_neither(tmp_path, monkeypatch):
    file = tmp_path / "other.safetensors"
    file.write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match=r"^`embedder`: got .*expected the file of a small class"):
        metrics.read_embedder(str(file))
    monkeypatch.setattr(efficientnet, "_PACKAGE", "no_such_package")
    with pytest.raises(ValueError, match=r"^`embedder`: got 'efficientnet', where .* no package"):
        metrics.read_embedder("efficientnet")
    assert metrics.embedder_file("efficientnet") is None
    assert metrics.embedder_file("") is None
