"""The successor of a deployed model of the digits: deeper, with a finer encoder, trained longer.

    python launch/train.py --config=configs/graceful_update.py:deployed --workdir=D
    python launch/update.py --config=configs/graceful_update.py --workdir=W --from=D
    python launch/compare_update.py --workdir=W

Form `deployed` is the model to be replaced, `successor` its successor, `small` a denoiser of
half the width on the deployed model's latents. `fashion_deployed` and `fashion` are
the first two for Fashion-MNIST at 16 × 16, with `--config.data.path=DATA`. `shown_deployed` and
`shown` are those of the digits where known modalities are shown to the network. For a model of your
own take its config and add the section `graceful`.
"""

import dataclasses
from typing import Any

from ml_collections import ConfigDict

from configs import common, digits, image_label
from mmdiffusion_jax import graceful


def get_config(form: str = "successor") -> ConfigDict:
    forms = {
        "deployed": _deployed,
        "successor": _successor,
        "small": _small,
        "fashion_deployed": _fashion_deployed,
        "fashion": _fashion,
        "shown_deployed": _shown_deployed,
        "shown": _shown,
    }
    return common.choose(forms, form)


def _shown_digits() -> ConfigDict:
    """The digits in the form in which docs/graceful_updates.md measured them."""
    config = digits.get_config()
    config.backbone.positions = "learned"
    return config


def _digits() -> ConfigDict:
    """As measured there too, where nothing is shown."""
    config = _shown_digits()
    config.loss.tasks = ConfigDict({"image, label": 1.0})
    config.loss.dropout = ConfigDict({"label": 0.1})
    config.sampling.sampler, config.sampling.num_steps = "ancestral", None
    return config


def _fashion_mnist() -> ConfigDict:
    """As measured there too: nothing is shown, heads read the highest map alone, and by AdamW."""
    config = image_label.get_config("small")
    config.training.optimiser = "adamw"
    config.primary_as_state = False
    config.backbone.bottleneck_features = False
    config.loss.tasks = ConfigDict({"image, label": 1.0})
    return config


def _deployed() -> ConfigDict:
    return _coarse(_digits())


def _successor() -> ConfigDict:
    return _finer(_digits())


def _shown_deployed() -> ConfigDict:
    return _coarse(_shown_digits())


def _shown() -> ConfigDict:
    return _finer(_shown_digits())


def _coarse(config: ConfigDict) -> ConfigDict:
    """The deployed model: two blocks and coarse codes of labels."""
    config.backbone.depth = 2
    config.modalities.label.grid = (4, 4)
    config.training.num_steps = 2000
    return config


def _finer(config: ConfigDict) -> ConfigDict:
    """Its successor, as deep and fine as the config has it."""
    config.training.num_steps = 3000
    return _updating(config)


def _small() -> ConfigDict:
    config = _deployed()
    config.backbone.width = 32
    config.training.num_steps = 6000
    return _updating(config, encoders="kept")


def _fashion_deployed() -> ConfigDict:
    config = _fashion_mnist()
    config.training.num_steps = 600
    return config


def _fashion() -> ConfigDict:
    config = _fashion_mnist()
    config.modalities.label.grid = (8, 8)
    config.training.num_steps = 3000
    return _updating(config, flips=0.03, warm_start=True)


def _updating(config: ConfigDict, **options: Any) -> ConfigDict:
    """A successor: another seed than the deployed model's, and the options of the update."""
    config.seed = 1
    config.graceful = ConfigDict(dataclasses.asdict(graceful.UpdateOptions(**options)))
    return config
