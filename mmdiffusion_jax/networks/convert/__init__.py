"""Weights of published PyTorch checkpoints for our backbones, one file an architecture."""

from mmdiffusion_jax.networks.convert.adm import from_adm
from mmdiffusion_jax.networks.convert.checkpoint import read_checkpoint
from mmdiffusion_jax.networks.convert.dit import from_dit
from mmdiffusion_jax.networks.convert.uvit import from_uvit

__all__ = ["from_adm", "from_dit", "from_uvit", "read_checkpoint"]
