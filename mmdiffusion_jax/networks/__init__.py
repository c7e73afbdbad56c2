"""Flax Linen backbones under one contract, and the multi-modal model that joins the parts."""

from mmdiffusion_jax.networks.blocks import stack_layers, unstack_layers
from mmdiffusion_jax.networks.dit import DIT_SIZES, DiT
from mmdiffusion_jax.networks.multimodal import MultiModalModel
from mmdiffusion_jax.networks.unet import ADM_IMAGENET_64, UNet
from mmdiffusion_jax.networks.uvit import UVIT_SIZES, UViT

__all__ = [
    "ADM_IMAGENET_64",
    "DIT_SIZES",
    "UVIT_SIZES",
    "DiT",
    "MultiModalModel",
    "UNet",
    "UViT",
    "stack_layers",
    "unstack_layers",
]
