"""Images and labels of scikit-learn's handwritten digits, generated jointly.

1,437 training and 360 test examples of 8×8 pixels; `make quickstart` runs this config. Form
`few_labels`: the labels of 50 training images alone are known, five a class. A classifier of them:

    python launch/compare.py --config=configs/digits.py:few_labels --workdir=W --arms=predict \
        --budgets=steps
"""

from ml_collections import ConfigDict

from configs import common
from mmdiffusion_jax import experiment


def get_config(form: str = "whole") -> ConfigDict:
    return common.choose({"whole": _whole, "few_labels": _few_labels}, form)


def _whole() -> ConfigDict:
    config = experiment.default_config()
    config.data.source = "digits"
    config.latent = (8, 8, 1)
    config.modalities = ConfigDict(
        {
            "image": {"kind": "image", "num_levels": 17},
            "label": {"kind": "label", "num_classes": 10},
        }
    )
    config.primary = "image"
    config.process.num_steps = 100
    config.process.target = "v"
    config.process.weights = ConfigDict({"label": {"rule": "bump", "scale": 1.0}})
    config.loss.scales = ConfigDict({"image": 0.001, "label": 0.1})
    config.sampling.sampler = "dpm_solver_pp_2m_sde"
    config.sampling.num_steps = 15
    config.training.num_steps = 7500
    config.training.batch_size = 64
    return config


def _few_labels() -> ConfigDict:
    config = _whole()
    config.data.kept = ConfigDict({"label": 50})
    common.learn_from_few(config, "label", rate=0.45)
    config.loss.shown_noise = ConfigDict({"image": 0.8})
    config.loss.scales.label = 0.01
    return config
