"""The published checkpoints of DiT (Peebles & Xie 2023)."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mmdiffusion_jax import errors
from mmdiffusion_jax.networks.convert.conversion import Conversion
from mmdiffusion_jax.networks.dit import DiT
from mmdiffusion_jax.networks.embeddings import grid_embedding

# Others would take the same tensors, and answer otherwise.
_PUBLISHED = {"norm": "layer", "feed_forward": "gelu", "rotary": False, "qk_norm": False}


def from_dit(
    tensors: Mapping[str, np.ndarray], net: DiT, label: int | None = None, context_features: int = 0
) -> dict[str, Any]:
    """The parameters of `net` from a checkpoint of DiT.

    Our step t is the published step 1000 t/T − 1: with T = 1000 the one before, as the first is
    called 0. The published network adds the embedding of the class to that of t in any state, so
    that of one class goes into a bias.

    The tensors do not tell `num_heads`: it has to be the published one, or the network answers
    otherwise without an error.

    Args:
        tensors: the checkpoint, by the published names.
        net: a network of the published fields (`DIT_SIZES`), with 8 channels out for 4 in.
        label: the class that the network keeps; left out, the last row of the table, which the
            published models learned for states without a class.
        context_features: how many features the context has; they start without effect.

    Raises:
        ValueError: a network with another norm or feed-forward layer than the published one, rotary
            positions or norms of queries and keys; a tensor that is missing, too many or of the
            wrong shape; a label that is not in the table.
    """
    for name, value in _PUBLISHED.items():
        if getattr(net, name) != value:
            raise errors.invalid(
                f"net.{name}",
                repr(getattr(net, name)),
                f"{value!r}, as in the published network",
                "set it so, or train this network from the start",
            )
    conversion = Conversion(tensors, net)
    conversion.time("time_1", "t_embedder.mlp.0")
    conversion.linear("time_2", "t_embedder.mlp.2")
    table = "y_embedder.embedding_table.weight"
    row = conversion.class_row(table, label, else_last=True)
    conversion.add_to_bias("time_2", row, table)
    conversion.zero_context(net.width, context_features)

    conversion.patches("patches", "x_embedder.proj")
    positions = conversion.take("pos_embed", 3)[0]
    if net.positions == "learned":
        conversion.put("position", positions, "pos_embed")
    else:
        rows, columns = (side // net.patch_size for side in net.latent[:2])
        fixed = grid_embedding(rows, columns, net.width)
        if positions.shape != fixed.shape or not np.allclose(positions, fixed, atol=1e-4):
            raise conversion.unfit(
                f"'pos_embed' of shape {positions.shape}", f"the fixed positions {fixed.shape}"
            )
    for index in range(net.depth):
        path, source = f"blocks_{index}", f"blocks.{index}"
        conversion.linear(f"{path}/modulation", f"{source}.adaLN_modulation.1")
        conversion.attention(path, f"{source}.attn.qkv", f"{source}.attn.proj")
        conversion.linear(f"{path}/hidden", f"{source}.mlp.fc1")
        conversion.linear(f"{path}/narrow", f"{source}.mlp.fc2")
    conversion.linear("modulation", "final_layer.adaLN_modulation.1")
    conversion.linear("prediction", "final_layer.linear")
    return conversion.finish(context_features)
