"""Flax Linen backbones under one contract, and the multi-modal model that joins the parts."""

from mmdiffusion_jax.networks.dit import DiT
from mmdiffusion_jax.networks.multimodal import MultiModalModel
from mmdiffusion_jax.networks.separate import SeparateModel

__all__ = ["DiT", "MultiModalModel", "SeparateModel"]
