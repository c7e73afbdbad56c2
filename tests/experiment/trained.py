"""Workdirs of trained models without the training: every number in them is drawn."""

import jax
import jax.numpy as jnp
import numpy as np

from configs import digits
from mmdiffusion_jax import data, experiment, training

STEP = 7


def small_config(backbone=None, modalities=(), without=(), **training_options):
    """The digits with a tiny network; `modalities` are added, or replace those of their name."""
    config = digits.get_config()
    config.process.num_steps, config.sampling.num_steps = 8, None
    if backbone is None:
        config.backbone.update({"width": 16, "depth": 1, "num_heads": 2})
    else:
        config.backbone = backbone
    for name, spec in dict(modalities).items():
        config.modalities[name] = spec
        config.process.weights[name] = {"rule": "bump", "scale": 1.0}
    for name in without:
        for section in (config.modalities, config.process.weights, config.loss.scales):
            if name in section:
                del section[name]
    config.training.update({"batch_size": 16, "num_steps": 4, "warmup_steps": 1, "log_every": 2})
    config.training.update({"eval_every": 0, "sample_every": 0, "checkpoint_every": 2, "keep": 9})
    config.training.update(training_options)
    return config


def leave_trained(workdir, config, seed=0, **position):
    """Makes a workdir with one checkpoint, in which no two arrays are alike."""
    built = experiment.build(config)
    rng = np.random.default_rng(seed)

    def draw(leaf):
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.key(5)
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return jnp.full(leaf.shape, STEP, leaf.dtype)
        return jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype)

    state = jax.tree.map(draw, experiment.abstract_state(built, training.make_mesh()))
    with (
        experiment.hold_workdir(workdir, config) as folder,
        training.Checkpoints(folder / "checkpoints") as checkpoints,
    ):
        checkpoints.save(STEP, state, {"next_example": 16 * STEP, **position})
    return workdir


def source(count=40, seed=0, **columns):
    """Random images of the digits' 17 levels, labels, and what else is given."""
    rng = np.random.default_rng(seed)
    levels = rng.integers(0, 256, (count, 8, 8, 1)) // 16
    images = np.round(levels * (255 / 16)).astype(np.uint8)
    labels = rng.integers(0, 10, count).astype(np.int32)
    return data.ArraySource({"image": images, "label": labels, **columns})
