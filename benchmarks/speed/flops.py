"""How many floating-point operations the products of a backbone's forward pass take."""

import flax.linen as nn

from mmdiffusion_jax import errors
from mmdiffusion_jax.networks.dit import DiT
from mmdiffusion_jax.networks.unet import UNet
from mmdiffusion_jax.networks.uvit import UViT


def forward_flops(net: nn.Module, context_features: int = 0) -> int:
    """FLOPs of all matrix products and convolutions for one example, 2 a multiply-add.

    A layer of a features in and b out takes 2ab at each place; a 3 × 3 convolution of a map of
    h × w places 2ab(3h − 2)(3w − 2), as the zeros around the map need no product. Attention among
    n tokens of width d takes 8nd² in its four layers and 4n²d in its two products.

    With n patches of s values, width d, N blocks whose hidden width is md, k features of context
    and o values predicted of a patch:

    - DiT, f sines and cosines of t:
      2d(f + d + k) + 2nsd + N(12d² + (8 + 4m)nd² + 4n²d) + 4d² + 2ndo
    - U-ViT, n' = n + 1 tokens, or n + 2 with a context:
      2dk + 2nsd + N((8 + 4m)n'd² + 4n'²d) + (N − 1)/2 · 4n'd² + 2ndo, and the last convolution
    - U-Net: the sum over its residual blocks, a channels in and b out, of their convolutions a → b
      and b → b, 2 · 4d · 2b for t and 2ab a place where a is not b; of the attentions; of the first
      and the last convolution; 2 · 4d(d + 4d + k + b) for t, the context and the condition; and
      2ab for the features of the bottleneck.

    Elementwise work, norms and softmax are left out. A training step takes three times as much,
    less what the first layers would need for a gradient of their inputs.

    Args:
        net: the backbone, a DiT, a U-ViT or a U-Net.
        context_features: how many features of context it is given.

    Raises:
        ValueError: a backbone without a formula.

    Example:
        >>> net = DiT((2, 2, 1), out_channels=1, num_steps=10, width=8, depth=0, num_heads=1)
        >>> forward_flops(net)  # 2 · 8 · (8 + 8), 2 · 4 · 8, 4 · 8² and 2 · 8 · 4
        640
    """
    if isinstance(net, DiT):
        return _dit(net, context_features)
    if isinstance(net, UViT):
        return _uvit(net, context_features)
    if isinstance(net, UNet):
        return _unet(net, context_features)
    raise errors.invalid("net", net, "a DiT, a UViT or a UNet", "count it with product_flops")


def _dit(net: DiT, context: int) -> int:
    tokens, width = _patches(net), net.width
    condition = 2 * width * ((net.frequencies or width) + width + context)
    block = 12 * width**2 + _transformer(tokens, width, net.mlp_ratio)
    return condition + _ends(net) + net.depth * block + 4 * width**2


def _uvit(net: UViT, context: int) -> int:
    tokens, width = _patches(net) + 1 + (context > 0), net.width
    blocks = net.depth * _transformer(tokens, width, net.mlp_ratio)
    blocks += net.depth // 2 * 4 * tokens * width**2
    channels = net.out_channels
    last = _convolution(channels, channels, net.latent[:2]) if net.final_conv else 0
    return 2 * width * context + _ends(net) + blocks + last


def _unet(net: UNet, context: int) -> int:
    channels, time = net.level_channels, 4 * net.width
    now, kept = channels[0], [channels[0]]

    def sides(level: int) -> tuple[int, int]:
        return net.map_sides[0] >> level, net.map_sides[1] >> level

    def block(ins: int, outs: int, level: int) -> int:
        places = sides(level)[0] * sides(level)[1]
        convolutions = _convolution(ins, outs, sides(level)) + _convolution(
            outs, outs, sides(level)
        )
        skip = 2 * ins * outs * places if ins != outs else 0
        return convolutions + 2 * time * 2 * outs + skip

    def attention(width: int, level: int, everywhere: bool = False) -> int:
        if not everywhere and not net.has_attention(level):
            return 0
        return _attention(sides(level)[0] * sides(level)[1], width)

    patch = net.patch_size**2
    total = 2 * time * (net.width + time + context + channels[0])
    total += _convolution(patch * net.latent[2], channels[0], sides(0))
    total += _convolution(channels[0], patch * net.out_channels, sides(0))
    filters = net.skip_filters * patch * net.out_channels
    total += _convolution(patch * net.latent[2], filters, sides(0)) + 2 * time * filters
    for level, outs in enumerate(channels):
        for _ in range(net.num_res_blocks):
            total += block(now, outs, level) + attention(outs, level)
            now = outs
            kept.append(now)
        if level < len(channels) - 1:
            total += block(now, now, level + 1)
            kept.append(now)
    lowest = len(channels) - 1
    total += 2 * block(now, now, lowest) + attention(now, lowest, everywhere=True)
    total += 2 * now * channels[0] * net.bottleneck_features
    for level, outs in reversed(list(enumerate(channels))):
        for _ in range(net.num_res_blocks + 1):
            total += block(now + kept.pop(), outs, level) + attention(outs, level)
            now = outs
        if level > 0:
            total += block(now, now, level - 1)
    return total


def _transformer(tokens: int, width: int, mlp_ratio: int) -> int:
    return _attention(tokens, width) + 4 * mlp_ratio * tokens * width**2


def _attention(tokens: int, width: int) -> int:
    return 8 * tokens * width**2 + 4 * tokens**2 * width


def _convolution(ins: int, outs: int, sides: tuple[int, int]) -> int:
    return 2 * ins * outs * (3 * sides[0] - 2) * (3 * sides[1] - 2)


def _patches(net: DiT | UViT) -> int:
    return (net.latent[0] // net.patch_size) * (net.latent[1] // net.patch_size)


def _ends(net: DiT | UViT) -> int:
    """The first layer and the last, on the values of all patches."""
    values = net.latent[0] * net.latent[1] * (net.latent[2] + net.out_channels)
    return 2 * values * net.width
