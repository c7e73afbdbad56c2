"""The digits in about a minute on two cores, start included: the same path, a smaller run."""

from typing import Any

from ml_collections import ConfigDict

from configs import digits


def get_config() -> ConfigDict:
    config = digits.get_config()
    config.process.num_steps = 20
    config.sampling.sampler = "ancestral"
    config.sampling.num_steps = None
    config.backbone.width = 32
    config.backbone.depth = 2
    config.training.num_steps = 100
    config.training.warmup_steps = 20
    config.training.log_every = 10
    config.training.eval_every = 50
    config.training.sample_every = 50
    config.training.checkpoint_every = 20
    config.evaluation.num_samples = 200
    return config


def get_sweep() -> list[dict[str, Any]]:
    """Two seeds of each learning rate; launch/sweep.py trains them."""
    return [
        {"training.learning_rate": rate, "seed": seed} for rate in (1e-3, 3e-3) for seed in (0, 1)
    ]
