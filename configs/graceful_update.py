"""The successor of a deployed model of the digits: deeper, with a finer encoder, trained longer.

    python launch/train.py --config=configs/graceful_update.py:deployed --workdir=D
    python launch/update.py --config=configs/graceful_update.py --workdir=W --from=D
    python launch/compare_update.py --workdir=W

Form `deployed` is the model to be replaced, `successor` its successor. For a model of your own take
its config and add the section `graceful`.
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
    config.backbone.depth = 2
    config.modalities.label.grid = (4, 4)
    config.training.num_steps = 2000
    return config


def _successor() -> ConfigDict:
    config = _DIGITS["get_config"]()
    config.seed = 1
    config.graceful = ConfigDict(dataclasses.asdict(graceful.UpdateOptions()))
    return config
