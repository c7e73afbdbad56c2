"""The published checkpoints of U-ViT (Bao et al. 2023)."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mmdiffusion_jax import errors
from mmdiffusion_jax.networks.convert.conversion import Conversion
from mmdiffusion_jax.networks.uvit import UViT


def from_uvit(
    tensors: Mapping[str, np.ndarray],
    net: UViT,
    label: int | None = None,
    context_features: int = 0,
) -> dict[str, Any]:
    """The parameters of `net` from a checkpoint of U-ViT.

    A model of classes has a token for the class. Here it is the token of the context: the
    embedding of one class becomes its bias, and the context starts without effect. So such a model
    must be given a context, and a model without classes none.

    The tensors tell neither `num_heads` nor `time_scale`: both have to be the published ones, or
    the network answers otherwise without an error.

    Args:
        tensors: the checkpoint, by the published names.
        net: a network of the published fields (`UVIT_SIZES`).
        label: the class that the network keeps, for a model of classes; the models for guidance
            learned their last row for states without a class.
        context_features: how many features the context has.

    Raises:
        ValueError: naming a tensor that is missing, too many or of the wrong shape, a label that
            is not in the table, or a context that does not go with the checkpoint.
    """
    conversion = Conversion(tensors, net)
    has_classes = conversion.has("label_emb.weight")
    if has_classes != (context_features > 0):
        raise errors.invalid(
            "context_features",
            context_features,
            "at least 1 for a checkpoint of classes" if has_classes else "0 without classes",
            "the context's token stands for the class",
        )
    if not has_classes and label is not None:
        raise errors.invalid(
            "label", label, "none, as the checkpoint has no classes", "leave it out"
        )
    positions = conversion.take("pos_embed", 3)[0]
    if has_classes:
        row = conversion.class_row("label_emb.weight", label)
        conversion.zero_context(net.width, context_features)
        conversion.add_to_bias("context", row, "label_emb.weight")
        conversion.add_to_bias("context", positions[0], "pos_embed")
        positions = positions[1:]
    conversion.put("position", positions, "pos_embed")
    conversion.patches("patches", "patch_embed.proj")
    half = net.depth // 2
    names = [(f"in_blocks_{i}", f"in_blocks.{i}") for i in range(half)] + [("middle", "mid_block")]
    names += [(f"out_blocks_{i}", f"out_blocks.{i}") for i in range(half)]
    for path, source in names:
        if path.startswith("out_"):
            conversion.linear(f"{path}/skip", f"{source}.skip_linear")
        conversion.norm(f"{path}/norm_1", f"{source}.norm1")
        conversion.attention(path, f"{source}.attn.qkv", f"{source}.attn.proj", bias=False)
        conversion.norm(f"{path}/norm_2", f"{source}.norm2")
        conversion.linear(f"{path}/hidden", f"{source}.mlp.fc1")
        conversion.linear(f"{path}/narrow", f"{source}.mlp.fc2")
    conversion.norm("norm", "norm")
    conversion.linear("prediction", "decoder_pred")
    if net.final_conv:
        conversion.conv("final", "final_layer")
    return conversion.finish(context_features)
