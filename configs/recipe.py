"""What networks and training are made of: variants of a small diffusion transformer, compared.

    python launch/compare.py --config=configs/recipe.py --config.data.path=DATA --workdir=W \
        --arms=multi,rotary,qk_norm,rms,swiglu,context_tokens --budgets=time

Form `fashion`, which is the default, is images of Fashion-MNIST at 16 × 16 and their labels,
`cifar` those of CIFAR-10 at 32 × 32. Both have 64 tokens.
"""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from configs import common, image_label
from mmdiffusion_jax import experiment


def get_config(form: str = "fashion") -> ConfigDict:
    return common.choose({"fashion": _fashion, "cifar": _cifar}, form)


def get_variants() -> dict[str, Mapping[str, Any]]:
    """What each arm has that the config has not."""
    return {
        "rotary": {"backbone.rotary": True},
        "qk_norm": {"backbone.qk_norm": True},
        "rms": {"backbone.norm": "rms"},
        "swiglu": {"backbone.feed_forward": "swiglu"},
        "context_tokens": {"backbone.context_tokens": 4},
        "z_0": {"process.target": "z_0"},
        "sigmoid": {"loss.weighting.kind": "sigmoid"},
        "logit_normal": {"loss.logit_normal": (0.0, 1.0)},
        "muon": {"training.optimiser": "muon"},
        "longer_average": {"training.ema_decay": 0.999},
    }


def _fashion() -> ConfigDict:
    config = image_label.get_config("small")
    config.backbone = _transformer(patch_size=2)
    return config


def _cifar() -> ConfigDict:
    config = _fashion()
    config.data.source = "cifar10"
    config.data.size = (32, 32)
    config.latent = (32, 32, 3)
    config.backbone = _transformer(patch_size=4)
    config.evaluation.features = "efficientnet"
    return config


def _transformer(patch_size: int) -> ConfigDict:
    backbone = experiment.default_config().backbone
    backbone.patch_size = patch_size
    backbone.width, backbone.depth, backbone.num_heads = 96, 4, 4
    return backbone
