"""The successor of a deployed model of the digits: wider, and trained for longer.

    python launch/train.py --config=configs/graceful_update.py:deployed --workdir=D
    python launch/update.py --config=configs/graceful_update.py --workdir=W --from=D
    python launch/compare_update.py --workdir=W

Form `deployed` is the model to be replaced, `successor` its successor. For a model of your own take
its config and add the section `update`.
"""

import dataclasses
import runpy
from pathlib import Path

from ml_collections import ConfigDict

from mmdiffusion_jax import graceful

_DIGITS = runpy.run_path(str(Path(__file__).with_name("digits.py")))
_COMMON = runpy.run_path(str(Path(__file__).with_name("common.py")))


def get_config(form: str = "successor") -> ConfigDict:
    return _COMMON["choose"]({"deployed": _deployed, "successor": _successor}, form)


def _deployed() -> ConfigDict:
    config = _DIGITS["get_config"]()
    config.backbone.width, config.backbone.depth = 32, 2
    config.training.num_steps = 1500
    return config


def _successor() -> ConfigDict:
    config = _DIGITS["get_config"]()
    config.seed = 1
    config.update = ConfigDict(dataclasses.asdict(graceful.UpdateOptions()))
    return config
