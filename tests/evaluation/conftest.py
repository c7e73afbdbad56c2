"""Digits as every kind of modality, and an experiment on them that knows nothing."""

import types

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from sklearn.datasets import load_digits

from mmdiffusion_jax import data, experiment, metrics
from mmdiffusion_jax.evaluation import RealData
from mmdiffusion_jax.experiment import EvaluationOptions
from mmdiffusion_jax.modalities import Audio, Embedding, Image, Label, MaskedImage, Segmentation
from tests.apps.small import smoke_config

LATENT = (8, 8, 1)


def every_kind(count, embed, dims):
    """Columns of every kind, made from so many digits, and the modalities that they are."""
    loaded = load_digits()
    images = np.round(loaded.images[:count] * 255 / 16).astype(np.uint8)[..., None]
    masked = MaskedImage(latent=LATENT, num_squares=1, square_size=3)
    columns = {
        "image": images,
        "label": loaded.target[:count],
        "mask": (images[..., 0] > 100).astype(np.int32),
        "masked_image": masked.derive(np.random.default_rng(0), images),
        "audio": (images[..., 0] / 127.5 - 1).astype(np.float32),
        "embedding": embed(images),
    }
    modalities = {
        "image": Image(latent=LATENT, is_primary=True),
        "label": Label(latent=LATENT, num_classes=10),
        "mask": Segmentation(latent=LATENT, num_classes=2),
        "masked_image": masked,
        "audio": Audio(latent=LATENT, frames=8, mels=8),
        "embedding": Embedding(latent=LATENT, dims=dims, head_kind="cosine"),
    }
    return columns, modalities


def real_data(columns, modalities, num_train=400, embedder="", **options):
    stub = types.SimpleNamespace(
        model=types.SimpleNamespace(primary="image", modalities=modalities),
        evaluation=EvaluationOptions(**options),
        settings=types.SimpleNamespace(data=types.SimpleNamespace(embedder=embedder)),
    )
    train, test = (
        data.ArraySource({name: x[rows] for name, x in columns.items()})
        for rows in (slice(num_train), slice(num_train, None))
    )
    return RealData(stub, train, test)


@pytest.fixture(scope="session")
def digits():
    """600 of them, with embeddings that say nothing."""
    draw = np.random.default_rng(0).normal
    return every_kind(600, lambda images: draw(size=(600, 5)).astype(np.float32), 5)


@pytest.fixture(scope="session")
def real(tmp_path_factory):
    """All of them, with the features and the embeddings of a network that was fitted to them."""
    loaded = load_digits()
    pixels = np.round(loaded.images[:1200] * 255 / 16).astype(np.uint8)[..., None]
    network = metrics.fit_classifier(pixels, loaded.target[:1200], num_steps=150)
    file = str(tmp_path_factory.mktemp("network") / "network.safetensors")
    network.save(file)
    columns, modalities = every_kind(len(loaded.images), network.features, 128)
    return real_data(columns, modalities, 1200, file, features=file, judge_steps=150)


@pytest.fixture(scope="session")
def built():
    """An experiment on images and labels with parameters that know nothing."""
    config = smoke_config()
    config.evaluation = ConfigDict({**config.evaluation, "num_scored": 30, "num_samples": 12,
                                    "batch_size": 16})  # fmt: skip
    config.sampling.batch_size = 12
    instance = experiment.build(config)
    return instance, jax.jit(instance.init)(jax.random.key(0))
