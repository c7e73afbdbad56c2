"""The flag that sends metrics to Weights & Biases as well."""

import contextlib
from collections.abc import Callable

from absl import flags
from ml_collections import ConfigDict

from mmdiffusion_jax import training

# The flag belongs to the launch script that has it defined, whose --help shows it.
flags.disclaim_key_flags()


def define_wandb_flag() -> Callable[[ConfigDict], contextlib.AbstractContextManager[None]]:
    """Defines the flag of a launch script that trains.

    Returns:
        A function of the config that gives, after parsing, the context to train in. It raises a
        ValueError where the flag is set and `wandb` is not installed.
    """
    project = flags.DEFINE_string(
        "wandb", None, "A project of Weights & Biases that gets the metrics as well."
    )

    def open_mirror(config: ConfigDict) -> contextlib.AbstractContextManager[None]:
        if not project.value:
            return contextlib.nullcontext()
        return training.mirrored(training.WandbMirror(project.value, config.to_dict()))

    return open_mirror
