"""Experiments with the digits, small enough for tests of updates."""

import jax
import numpy as np

from configs import digits
from mmdiffusion_jax import data, experiment, graceful
from tests.params import drawn


def built_with(
    num_steps=8, grid=None, formulation="shared", modalities=(), masks=False, **backbone
):
    """An experiment; `modalities` are added, or replace those of their name; with masks of two
    channels."""
    config = digits.get_config()
    config.process.num_steps, config.sampling.num_steps = num_steps, None
    config.backbone.update({"width": 16, "depth": 1, "num_heads": 2, **backbone})
    config.formulation = formulation
    if masks:
        config.latent = (8, 8, 2)
        config.modalities.mask = {"kind": "segmentation", "num_classes": 3, "void": 255}
        config.process.weights.mask = {"rule": "bump", "scale": 1.0}
    if grid is not None:
        config.modalities.label.grid = grid
    for name, spec in dict(modalities).items():
        config.modalities[name] = spec
        config.process.weights[name] = {"rule": "bump", "scale": 1.0}
    config.training.update({"batch_size": 16, "num_steps": 4, "warmup_steps": 1, "log_every": 2})
    config.training.update({"eval_every": 0, "sample_every": 0, "checkpoint_every": 0})
    return experiment.build(config)


def frozen(built, seed=0):
    """A bundle of drawn parameters, as at the start of training the output layer is zero."""
    shapes = jax.eval_shape(built.init, jax.random.key(0))
    return graceful.freeze(built, jax.device_get(drawn(shapes, seed)))


def examples(count=40, seed=0):
    """Random images of the digits' 17 levels and labels; nothing here needs real ones."""
    rng = np.random.default_rng(seed)
    levels = rng.integers(0, 256, (count, 8, 8, 1)) // 16
    return {
        "image": np.round(levels * (255 / 16)).astype(np.uint8),
        "label": rng.integers(0, 10, count).astype(np.int32),
    }


def source(count=40, seed=0):
    """The same as a source."""
    return data.ArraySource(examples(count, seed))
