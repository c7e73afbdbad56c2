"""Digits as every kind of modality, and an experiment on them that knows nothing."""

import types

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from sklearn.datasets import load_digits

from mmdiffusion_jax import data, experiment
from mmdiffusion_jax.evaluation import RealData
from mmdiffusion_jax.experiment import EvaluationOptions
from mmdiffusion_jax.modalities import Audio, Embedding, Image, Label, MaskedImage, Segmentation
from tests.apps.small import smoke_config

LATENT = (8, 8, 1)


@pytest.fixture(scope="session")
def digits():
    """Columns of every kind, made from 600 digits, and the modalities that they are."""
    loaded = load_digits()
    images = np.round(loaded.images[:600] * 255 / 16).astype(np.uint8)[..., None]
    rng = np.random.default_rng(0)
    masked = MaskedImage(latent=LATENT, num_squares=1, square_size=3)
    columns = {
        "image": images,
        "label": loaded.target[:600],
        "mask": (images[..., 0] > 100).astype(np.int32),
        "masked_image": masked.derive(rng, images),
        "audio": (images[..., 0] / 127.5 - 1).astype(np.float32),
        "embedding": rng.normal(size=(600, 5)).astype(np.float32),
    }
    modalities = {
        "image": Image(latent=LATENT, is_primary=True),
        "label": Label(latent=LATENT, num_classes=10),
        "mask": Segmentation(latent=LATENT, num_classes=2),
        "masked_image": masked,
        "audio": Audio(latent=LATENT, frames=8, mels=8),
        "embedding": Embedding(latent=LATENT, dims=5),
    }
    return columns, modalities


def real_data(columns, modalities):
    stub = types.SimpleNamespace(
        model=types.SimpleNamespace(primary="image", modalities=modalities),
        evaluation=EvaluationOptions(),
        config=types.SimpleNamespace(data=types.SimpleNamespace(embedder="")),
    )
    train, test = (
        data.ArraySource({name: x[rows] for name, x in columns.items()})
        for rows in (slice(400), slice(400, None))
    )
    return RealData(stub, train, test)


@pytest.fixture(scope="session")
def built():
    """An experiment on images and labels with parameters that know nothing."""
    config = smoke_config()
    config.evaluation = ConfigDict({**config.evaluation, "num_scored": 30, "num_samples": 12,
                                    "batch_size": 16})  # fmt: skip
    config.sampling.batch_size = 12
    made = experiment.build(config)
    return made, jax.jit(made.init)(jax.random.key(0))
