"""Figures of sets against torch-fidelity on the same features, where it is installed."""

import importlib.util

import numpy as np
import pytest
import torch

from mmdiffusion_jax import metrics
from tests.metrics.features import torch_networks

pytestmark = pytest.mark.skipif(
    not importlib.util.find_spec("torch_fidelity"), reason="torch_fidelity is not installed"
)
RNG = np.random.default_rng(0)
REAL, GENERATED = RNG.normal(size=(60, 5)), RNG.normal(0.3, 1.2, size=(60, 5))


@pytest.fixture
def package(monkeypatch):
    def load(name):
        return torch_networks.without_torchvision(monkeypatch, f"torch_fidelity.metric_{name}")

    return load


def test_frechet(package):
    fid = package("fid")
    moments = [fid.fid_features_to_statistics(torch.tensor(x)) for x in (REAL, GENERATED)]
    (want,) = fid.fid_statistics_to_metric(*moments, verbose=False).values()
    np.testing.assert_allclose(metrics.frechet_distance(REAL, GENERATED), want, rtol=1e-6)


def test_kernel(package):
    got = package("kid").kid_features_to_metric(
        *map(torch.tensor, (REAL, GENERATED)), kid_subsets=1, kid_subset_size=60, verbose=False
    )
    want = got["kernel_inception_distance_mean"]
    np.testing.assert_allclose(metrics.kernel_distance(REAL, GENERATED), want)


def test_precision_and_recall(package):
    got = package("prc").prc_features_to_metric(
        *map(torch.tensor, (GENERATED, REAL)), prc_neighborhood=3, verbose=False
    )
    want = got["precision"], got["recall"]
    np.testing.assert_allclose(metrics.precision_recall(REAL, GENERATED), want, rtol=1e-6)


def test_inception_score(package):
    logits = torch.tensor(REAL)
    got = package("isc").isc_features_to_metric(logits, splits=4, shuffle=False)
    p = logits.softmax(dim=1).numpy()
    want = tuple(got.values())
    np.testing.assert_allclose(metrics.inception_score(p, num_splits=4, seed=None), want)
