"""The published checkpoints of ADM (Dhariwal & Nichol 2021)."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mmdiffusion_jax import errors
from mmdiffusion_jax.networks.convert.conversion import Conversion
from mmdiffusion_jax.networks.unet import UNet


def from_adm(
    tensors: Mapping[str, np.ndarray],
    net: UNet,
    label: int | None = None,
    context_features: int = 0,
    new_attention_order: bool = True,
) -> dict[str, Any]:
    """The parameters of `net` from a checkpoint of ADM.

    Our step t is the published step 1000 t/T − 1: with T = 1000 the one before, as the first is
    called 0. The published network adds the embedding of the class to that of t in any state, so
    that of one class goes into a bias. The layer "condition", which the published models lack,
    starts at zero. Models with a fixed number of heads (128 × 128 pixels) and those that enlarge
    images are not covered.

    The tensors tell neither `num_groups` nor `num_head_channels`: both have to be the published
    ones, or the network answers otherwise without an error.

    Args:
        tensors: the checkpoint, by the published names.
        net: a network of the published fields, as `ADM_IMAGENET_64`.
        label: the class that the network keeps, for a model of classes.
        context_features: how many features the context has; they start without effect.
        new_attention_order: the published flag of that name; true of the model of 64 × 64 pixels,
            false of the larger ones.

    Raises:
        ValueError: naming a tensor that is missing, too many or of the wrong shape, or a label
            that does not go with the checkpoint.
    """
    conversion = Conversion(tensors, net)
    conversion.time("time_1", "time_embed.0")
    conversion.linear("time_2", "time_embed.2")
    if conversion.has("label_emb.weight"):
        row = conversion.class_row("label_emb.weight", label)
        conversion.add_to_bias("time_2", row, "label_emb.weight")
    elif label is not None:
        raise errors.invalid(
            "label", label, "none, as the checkpoint has no classes", "leave it out"
        )
    channels = net.level_channels
    conversion.zero_context(4 * net.width, context_features)
    conversion.put("condition/kernel", np.zeros((4 * net.width, channels[0])), "condition")
    conversion.put("condition/bias", np.zeros(channels[0]), "condition")

    def block(path: str, source: str) -> None:
        conversion.norm(f"{path}/norm_1", f"{source}.in_layers.0")
        conversion.conv(f"{path}/conv_1", f"{source}.in_layers.2")
        conversion.linear(f"{path}/modulation", f"{source}.emb_layers.1")
        conversion.norm(f"{path}/norm_2", f"{source}.out_layers.0")
        conversion.conv(f"{path}/conv_2", f"{source}.out_layers.3")
        if conversion.has(f"{source}.skip_connection.weight"):
            conversion.linear(f"{path}/skip", f"{source}.skip_connection", ndim=4)

    def attention(path: str, source: str, count: int) -> None:
        heads = 1 if new_attention_order else count // net.num_head_channels
        conversion.norm(f"{path}/norm", f"{source}.norm")
        conversion.attention(path, f"{source}.qkv", f"{source}.proj_out", heads, ndim=3)

    conversion.conv("input", "input_blocks.0.0")
    stage = 1
    for level, count in enumerate(channels):
        for index in range(net.num_res_blocks):
            block(f"down_{level}_{index}", f"input_blocks.{stage}.0")
            if net.has_attention(level):
                attention(f"down_{level}_{index}_attention", f"input_blocks.{stage}.1", count)
            stage += 1
        if level < len(channels) - 1:
            block(f"down_{level}_resample", f"input_blocks.{stage}.0")
            stage += 1

    block("middle_0", "middle_block.0")
    attention("middle_0_attention", "middle_block.1", channels[-1])
    block("middle_1", "middle_block.2")

    stage = 0
    for level, count in reversed(list(enumerate(channels))):
        for index in range(net.num_res_blocks + 1):
            block(f"up_{level}_{index}", f"output_blocks.{stage}.0")
            last = 1
            if net.has_attention(level):
                attention(f"up_{level}_{index}_attention", f"output_blocks.{stage}.1", count)
                last = 2
            if level and index == net.num_res_blocks:
                block(f"up_{level}_resample", f"output_blocks.{stage}.{last}")
            stage += 1
    conversion.norm("norm", "out.0")
    conversion.conv("prediction", "out.2")
    return conversion.finish(context_features)
