"""Separate spaces: every modality diffuses with its own noise and its own time (UniDiffuser)."""

from mmdiffusion_jax.baselines.separate.formulation import Separate
from mmdiffusion_jax.baselines.separate.functions import SeparateFunctions, separate_state
from mmdiffusion_jax.baselines.separate.loss import separate_loss_terms
from mmdiffusion_jax.baselines.separate.network import SeparateModel
from mmdiffusion_jax.baselines.separate.sample import sample_separate

__all__ = [
    "Separate",
    "SeparateFunctions",
    "SeparateModel",
    "sample_separate",
    "separate_loss_terms",
    "separate_state",
]
