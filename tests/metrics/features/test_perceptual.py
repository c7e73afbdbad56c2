"""The perceptual distance against loops over layers and places, and what it orders."""

import dataclasses

import jax
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from mmdiffusion_jax import metrics

RNG = np.random.default_rng(0)


@dataclasses.dataclass
class Maps:
    """Two layers that are not images any more."""

    def feature_maps(self, images):
        return [images[:, ::2, ::2], images @ np.arange(6.0).reshape(3, 2)]


def test_against_places():
    x, y = RNG.uniform(size=(2, 3, 4, 6, 3))
    layers = []
    for a, b in zip(Maps().feature_maps(x), Maps().feature_maps(y)):
        cosine = [
            [
                1 - p @ q / np.linalg.norm(p) / np.linalg.norm(q)
                for p, q in zip(i.reshape(-1, i.shape[-1]), j.reshape(-1, j.shape[-1]))
            ]
            for i, j in zip(a, b)
        ]
        layers.append(2 * np.mean(cosine, axis=1))
    got = metrics.perceptual_distance(Maps(), x, y)
    np.testing.assert_allclose(got, np.mean(layers, axis=0), rtol=1e-4)


def test_more_blur_is_further_away():
    images = RNG.integers(0, 256, (40, 8, 8)).astype(np.uint8)
    labels = np.arange(40) % 2
    images[labels == 1, :4] //= 4
    network = metrics.fit_classifier(images, labels, num_steps=20, num_features=8)
    blurred = [
        gaussian_filter(images.astype(float), (0, sigma, sigma)).astype(np.uint8)
        for sigma in (0, 0.4, 0.8, 1.6)
    ]
    distances = [metrics.perceptual_distance(network, images, x).mean() for x in blurred]
    assert distances[0] == 0
    assert sorted(distances) == distances


def test_pairs_of_different_shapes_are_refused():
    x = jax.numpy.zeros((2, 4, 4, 3))
    with pytest.raises(ValueError, match=r"`y`: got shape \(1, 4, 4, 3\)"):
        metrics.perceptual_distance(Maps(), x, x[:1])
