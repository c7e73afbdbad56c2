"""Weights of published PyTorch checkpoints for our backbones, one file an architecture.

    tensors = read_tensors("DiT-XL-2-256x256.pt")
    net = DiT((32, 32, 4), out_channels=8, num_steps=1000, **DIT_SIZES["XL"])
    params = from_dit(tensors, net, label=207, context_features=1)

`params` stand for "backbone" among the parameters of a `MultiModalModel` of one secondary modality.
"""

from mmdiffusion_jax.networks.convert.adm import from_adm
from mmdiffusion_jax.networks.convert.dit import from_dit
from mmdiffusion_jax.networks.convert.uvit import from_uvit
from mmdiffusion_jax.tensors import read_tensors

__all__ = ["from_adm", "from_dit", "from_uvit", "read_tensors"]
