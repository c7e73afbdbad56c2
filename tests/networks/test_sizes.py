"""The published sizes have the published numbers of parameters."""

import math

import jax
import jax.numpy as jnp
import pytest
import torch

from benchmarks.speed.torch_adm import TorchADM
from benchmarks.speed.torch_transformers import TorchDiT, TorchUViT
from mmdiffusion_jax.networks import ADM_IMAGENET_64, DIT_SIZES, UVIT_SIZES, DiT, UNet, UViT


def counts(net, context=0):
    """{name at the top: parameters} of one of our networks, without making it."""
    arguments = [(1, *net.latent), (1,)] + ([(1, context)] if context else [])
    shapes = jax.eval_shape(
        net.init, jax.random.key(0), *(jax.ShapeDtypeStruct(s, jnp.float32) for s in arguments)
    )
    return {
        name: sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(part))
        for name, part in shapes["params"].items()
    }


def published(reference, *left_out):
    """All parameters of a network in PyTorch, and those that ours leaves out."""
    sizes = {name: value.numel() for name, value in reference.named_parameters()}
    return sum(sizes.values()), sum(sizes[name] for name in left_out)


@pytest.mark.parametrize(("size", "millions"), [("S", 33), ("B", 130), ("L", 458), ("XL", 675)])
def test_dit(size, millions):
    fields = DIT_SIZES[size]
    with torch.device("meta"):
        reference = TorchDiT(32, 4, fields["width"], fields["depth"], fields["num_heads"])
    whole, without = published(reference, "y_embedder.embedding_table.weight", "pos_embed")
    assert abs(whole / 1e6 - millions) < 0.6
    assert sum(counts(DiT((32, 32, 4), 8, 1000, **fields)).values()) == whole - without


@pytest.mark.parametrize(
    ("size", "latent", "patch", "classes", "millions"),
    [
        ("S", (32, 32, 3), 2, 0, 44),
        ("M", (64, 64, 3), 4, 1000, 131),
        ("L", (32, 32, 4), 2, 1001, 287),
    ],
)
def test_uvit(size, latent, patch, classes, millions):
    fields = UVIT_SIZES[size]
    side, _, channels = latent
    with torch.device("meta"):
        reference = TorchUViT(
            side,
            channels,
            fields["width"],
            fields["depth"] - 1,
            fields["num_heads"],
            patch,
            classes,
        )
    whole, without = published(reference, *(["label_emb.weight"] if classes else []))
    assert abs(whole / 1e6 - millions) < 0.5
    ours = counts(UViT(latent, channels, 1000, patch, **fields), context=1 if classes else 0)
    # The bias of the context's layer is the position of the class's token; its kernel is ours.
    assert sum(ours.values()) - (fields["width"] if classes else 0) == whole - without


def test_adm():
    fields = ADM_IMAGENET_64
    with torch.device("meta"):
        reference = TorchADM(
            64,
            3,
            6,
            fields["width"],
            fields["channel_mults"],
            fields["num_res_blocks"],
            fields["attention_resolutions"],
            fields["num_head_channels"],
            classes=1000,
        )
    whole, without = published(reference, "label_emb.weight")
    assert abs(whole / 1e6 - 296) < 0.5
    ours = counts(UNet((64, 64, 3), 6, 1000, **fields))
    assert ours["condition"] == (4 * 192 + 1) * 192
    assert sum(ours.values()) - ours["condition"] == whole - without
