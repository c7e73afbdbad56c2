"""What networks and training are made of: variants of a small model, compared.

    python launch/compare.py --config=configs/recipe.py --config.data.path=DATA --workdir=W \
        --arms=multi,sincos,rotary,qk_norm,rms,swiglu,context_tokens --budgets=time

Form `fashion`, which is the default, is images of Fashion-MNIST at 16 × 16 and their labels,
`cifar` those of CIFAR-10 at 32 × 32, both with a diffusion transformer of 64 tokens. `fashion_unet`
and `cifar_unet` have the U-Net of the small configs, which has no options of transformers: its arms
are z_0, sigmoid, logit_normal, muon, muon_logit_normal, primary_as_state and averages.
"""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from configs import common, image_label
from mmdiffusion_jax import experiment


def get_config(form: str = "fashion") -> ConfigDict:
    forms = {
        "fashion": lambda: _transformer(_fashion_unet(), patch_size=2),
        "cifar": lambda: _transformer(_cifar_unet(), patch_size=4),
        "fashion_unet": _fashion_unet,
        "cifar_unet": _cifar_unet,
    }
    return common.choose(forms, form)


def get_variants() -> dict[str, Mapping[str, Any]]:
    """What each arm has that the config has not."""
    return {
        "sincos": {"backbone.positions": "sincos"},
        "rotary": {"backbone.rotary": True},
        "sincos_rotary": {"backbone.positions": "sincos", "backbone.rotary": True},
        "qk_norm": {"backbone.qk_norm": True},
        "rms": {"backbone.norm": "rms"},
        "swiglu": {"backbone.feed_forward": "swiglu"},
        "context_tokens": {"backbone.context_tokens": 4},
        "z_0": {"process.target": "z_0"},
        "sigmoid": {"loss.weighting.kind": "sigmoid"},
        "logit_normal": {"loss.logit_normal": (0.0, 1.0)},
        "muon": {"training.optimiser": "muon"},
        "muon_logit_normal": {"training.optimiser": "muon", "loss.logit_normal": (0.0, 1.0)},
        "primary_as_state": {"primary_as_state": True},
        "averages": {"training.ema_widths": (0.03, 0.1, 0.2)},
    }


def _fashion_unet() -> ConfigDict:
    return _plain(image_label.get_config("small"))


def _cifar_unet() -> ConfigDict:
    return _plain(image_label.get_config("cifar"))


def _plain(config: ConfigDict) -> ConfigDict:
    """Without what an arm adds."""
    config.training.optimiser = "adamw"
    config.primary_as_state = False
    return config


def _transformer(config: ConfigDict, patch_size: int) -> ConfigDict:
    backbone = experiment.default_config().backbone
    backbone.patch_size = patch_size
    backbone.width, backbone.depth, backbone.num_heads = 96, 4, 4
    backbone.positions = "learned"  # an arm adds fixed ones
    config.backbone = backbone
    return config
