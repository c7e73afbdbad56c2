"""Images and labels of scikit-learn's handwritten digits, generated jointly.

1,437 training and 360 test examples of 8×8 pixels; `make quickstart` runs this config.
"""

from ml_collections import ConfigDict

from mmdiffusion_jax import experiment


def get_config() -> ConfigDict:
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
