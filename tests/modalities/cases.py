"""One tiny instance of every kind of modality, for the contract's checks."""

import itertools

import jax.numpy as jnp
import numpy as np

from mmdiffusion_jax.modalities import (
    Audio,
    Embedding,
    Image,
    Label,
    LatentImage,
    MaskedImage,
    Segmentation,
    Tokens,
)
from tests.modalities.contract import LATENT, Case

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (3, *LATENT)).astype(np.uint8)


def every(values, shape):
    """All arrays of this shape with entries from `values`."""
    points = np.array(list(itertools.product(values, repeat=int(np.prod(shape)))))
    return points.reshape(-1, *shape)


def within_range(head):
    """Means well inside −1 … 1, where neither rounding nor clipping is felt."""
    return {**head, "mean": 0.3 * jnp.tanh(head["mean"]), "log_std": 0.1 * head["log_std"] - 2}


GRID = np.arange(-6, 6, 0.05)
PLANE = np.stack(np.meshgrid(GRID, GRID), -1).reshape(-1, 2).astype(np.float32)
ANGLES = np.arange(0, 2 * np.pi, 0.001)
CIRCLE = np.stack([np.cos(ANGLES), np.sin(ANGLES)], -1).astype(np.float32)


CASES = {
    "image": Case(
        Image(latent=LATENT),
        PIXELS,
        bad=(([0, 256], "pixels from 0 to 256, expected pixels in 0 … 255"),),
        space=(every((0, 128, 255), (2, 1, 2)).astype(np.uint8), 1),
        enumerated=Image(latent=(2, 1, 2), num_levels=3),
        temper=within_range,
        unit_rms=False,
        tolerance=1e-3,
    ),
    "label": Case(
        Label(latent=LATENT, num_classes=5, grid=(1, 2)),
        np.array([0, 4, 2]),
        bad=(([0, 5], "label 5, expected labels in 0 … 4"), ([-1, 2], "label -1")),
        space=(np.arange(5), 1),
    ),
    "latent_image": Case(
        LatentImage(latent=LATENT, shift=0.5, scale=1.5),
        RNG.normal(0.5, 0.6, (3, *LATENT)).astype(np.float32),
        bad=((np.full((1, *LATENT), np.nan), "latents that are not finite"),),
        space=(np.linspace(-3, 4, 7001, dtype=np.float32).reshape(-1, 1, 1, 1), 0.001),
        enumerated=LatentImage(latent=(1, 1, 1), shift=0.5, scale=1.5),
        temper=within_range,
        unit_rms=False,
    ),
    "masked_image": Case(
        MaskedImage(latent=LATENT),
        np.concatenate([PIXELS, RNG.choice([0, 255], (3, 2, 2, 1)).astype(np.uint8)], -1),
        bad=(
            (np.full((1, 2, 2, 4), 128), "validity 128 in the last channel, expected 0 .* or 255"),
            (np.full((1, 2, 2, 4), -1), "pixels from -1 to -1"),
        ),
        space=(every((0, 255), (2, 2, 2)).astype(np.uint8), 1),
        enumerated=MaskedImage(latent=(2, 2, 1), num_levels=2),
        temper=within_range,
        unit_rms=False,
        tolerance=1e-3,
    ),
    "segmentation": Case(
        Segmentation(latent=LATENT, num_classes=3, void=7),
        RNG.integers(0, 3, (3, 2, 2)),
        bad=(([[[0, 3]]], "class 3, expected classes in 0 … 2, or 7 where it is not"),),
        space=(every(range(3), (2, 2)), 1),
    ),
    "gaussian_embedding": Case(
        Embedding(latent=LATENT, dims=16),
        RNG.normal(size=(3, 16)).astype(np.float32),
        bad=(([[0, np.nan]], "the value nan, expected finite values"),),
        space=(PLANE, 0.05**2),
        enumerated=Embedding(latent=LATENT, dims=2),
        temper=lambda head: {**head, "log_std": 0.1 * head["log_std"] - 1},
        tolerance=0.06,
    ),
    "cosine_embedding": Case(
        Embedding(latent=LATENT, dims=16, head_kind="cosine"),
        RNG.normal(size=(3, 16)).astype(np.float32),
        bad=(([[1, 0], [0, 0]], "a vector of zeros, expected vectors that have a direction"),),
        space=(CIRCLE, 0.001),
        enumerated=Embedding(latent=LATENT, dims=2, head_kind="cosine"),
        tolerance=0.06,
    ),
    "audio": Case(
        Audio(latent=LATENT, frames=5, mels=8),
        RNG.uniform(-1, 1, (3, 5, 8)).astype(np.float32),
        bad=(([[[3.0]]], "the value 3.0, expected a log-mel spectrogram in −1 … 1"),),
        space=(PLANE[..., None], 0.05**2),
        enumerated=Audio(latent=LATENT, frames=2, mels=1),
        temper=within_range,
        tolerance=0.06,
    ),
    "audio_values": Case(
        Audio(latent=LATENT, frames=2, mels=6, encoder="values"),
        RNG.uniform(-1, 1, (3, 2, 6)).astype(np.float32),
        bad=(([[[3.0]]], "the value 3.0, expected a log-mel spectrogram in −1 … 1"),),
        space=(PLANE[..., None], 0.05**2),
        enumerated=Audio(latent=LATENT, frames=2, mels=1),
        temper=within_range,
        unit_rms=False,
        bounds_draws=False,
    ),
    "tokens": Case(
        Tokens(latent=LATENT, num_classes=4, length=3, padding=-1),
        RNG.integers(0, 4, (3, 3)),
        bad=(([[0, 4]], "token 4, expected tokens in 0 … 3, or -1 where it is not known"),),
        space=(every(range(4), (3,)), 1),
    ),
}
