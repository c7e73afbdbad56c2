"""The U-Net of ADM (Dhariwal & Nichol 2021, "Diffusion models beat GANs on image synthesis")."""

import functools
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from absl import logging

from mmdiffusion_jax import errors, ranges
from mmdiffusion_jax.model import Features, Shown
from mmdiffusion_jax.networks.attention import self_attention
from mmdiffusion_jax.networks.blocks import REMATS, rematerialised
from mmdiffusion_jax.networks.embeddings import time_embedding
from mmdiffusion_jax.networks.patches import check_patches, join_patches, split_patches
from mmdiffusion_jax.networks.precision import DTYPES, convolution, linear

ADM_IMAGENET_64: Mapping[str, Any] = MappingProxyType(
    {
        "width": 192,
        "channel_mults": (1, 2, 3, 4),
        "num_res_blocks": 3,
        "attention_resolutions": (32, 16, 8),
        "num_head_channels": 64,
    }
)
"""The fields of the published ADM of ImageNet 64 × 64 (296 M; table 11 of the paper).

Its latent is (64, 64, 3) with 6 channels out. It lacks dropout and the published table of classes,
as labels enter through a modality. It has two more layers: "condition", which brings the embedding
of t to the width of the features, and "context" where a context is given.
"""


class UNet(nn.Module):
    """The shared denoiser as ADM's U-Net.

    Levels of residual blocks, each level at half the resolution of the one above, with attention
    at chosen resolutions; group norms that t scales and shifts; resampling inside residual blocks.
    `ADM_IMAGENET_64` is a published size.

    Larger patches make it cheaper where the latent is large for its content: the highest level then
    has a map of patches, each with the values of its pixels as channels (Hoogeboom et al. 2023,
    "Simple diffusion", section 3).

    Attributes:
        latent: (height, width, channels) of the state.
        out_channels: channels of the prediction; twice the latent's for a learned variance.
        num_steps: T; t is embedded as a share of it.
        width: channels that `channel_mults` multiplies.
        channel_mults: channels of each level over `width`, the highest resolution first.
        num_res_blocks: residual blocks of a level on the way down; one more on the way up.
        attention_resolutions: heights of the maps that have attention; the lowest map has it once
            in any case. A height that no map has is warned of, once, but for the default, which
            the maps of latents of 8 rows have and those of larger ones with few levels do not.
        num_head_channels: channels of one attention head.
        num_groups: of the group norms, divides all channels.
        patch_size: side of a square patch; 1, as published, is a pixel. The map of patches is what
            the levels halve, each the one above it.
        bottleneck_features: whether the features have the smallest map too, averaged over its
            places. Heads of labels and embeddings learn faster from it than from the highest map,
            which has few channels and the pixels to answer for; heads of pixels do not read it.
        skip_filters: how many 3 × 3 filters of the map of patches are added to the prediction, each
            weighted by t and context; 0, as published, adds none. Where a place has many values
            for the channels of a small network, as patches of colour images have, its noise then
            need not pass through these.
        dtype: "float32" or "bfloat16", of the products, convolutions and maps. Parameters, norms,
            softmax, features and prediction are float32 in any case.
        remat: what of a residual block and the attention after it is saved for the backward pass,
            one of `networks.blocks.REMATS`.

    Raises:
        ValueError: a number out of its range, sides that cannot be halved that often, channels that
            groups or heads do not divide, or an unknown dtype or remat.

    Example:
        >>> net = UNet((8, 8, 1), out_channels=1, num_steps=10, width=32, num_res_blocks=1)
        >>> z, t = jnp.zeros((2, 8, 8, 1)), jnp.array([1, 10])
        >>> run = jax.eval_shape(net.init_with_output, jax.random.key(0), z, t)
        >>> (features, prediction), _ = run
        >>> features.grid.shape, features.condition.shape, prediction.shape
        ((2, 8, 8, 32), (2, 32), (2, 8, 8, 1))
    """

    latent: tuple[int, int, int]
    out_channels: int
    num_steps: int
    width: int = 64
    channel_mults: tuple[float, ...] = (1, 2)
    num_res_blocks: int = 2
    attention_resolutions: tuple[int, ...] = (4,)
    num_head_channels: int = 32
    num_groups: int = 32
    patch_size: int = 1
    bottleneck_features: bool = False
    skip_filters: int = 0
    dtype: str = "float32"
    remat: str = "none"

    @property
    def map_sides(self) -> tuple[int, int]:
        """Rows and columns of the highest level's map."""
        return self.latent[0] // self.patch_size, self.latent[1] // self.patch_size

    @property
    def level_channels(self) -> tuple[int, ...]:
        """The channels of each level, the highest resolution first."""
        return tuple(int(mult * self.width) for mult in self.channel_mults)

    def has_attention(self, level: int) -> bool:
        """Whether the maps of a level attend to themselves."""
        return self.map_sides[0] >> level in self.attention_resolutions

    @nn.compact
    def __call__(
        self,
        z_t: jax.Array,
        t: jax.Array,
        context: jax.Array | None = None,
        shown: Shown | None = None,
    ) -> tuple[Features, jax.Array]:
        """z_t (batch, *latent), t (batch,) → (features, prediction (batch, h, w, out_channels)).

        The context (batch, features) is what conditions the network beside t, or None; what is
        shown is added to the first map, and its summary to the embedding and, place by place, to
        the smallest map. The features' grid is the last map before the norm of the output; their
        condition is the embedding of t and context, brought to the width of the grid, their
        bottleneck, with `bottleneck_features`, the smallest map, pooled.
        """
        self.check()
        channels = self.level_channels
        embedding = self._embedding(t, context)
        if shown is not None:
            width = embedding.shape[-1]
            summary = linear(shown.summary, width, "shown_summary", self.dtype, use_bias=False)
            embedding = embedding + summary.astype(embedding.dtype)
        embedding = nn.silu(embedding)

        sides = self.map_sides
        patches = split_patches(z_t, self.patch_size).reshape(len(z_t), *sides, -1)
        grid = convolution(patches, channels[0], "input", self.dtype)
        if shown is not None:
            maps = split_patches(shown.maps, self.patch_size).reshape(len(z_t), *sides, -1)
            grid = grid + convolution(maps, channels[0], "shown", self.dtype, use_bias=False)
        skips = [grid]
        for level, out in enumerate(channels):
            attends = self.has_attention(level)
            for index in range(self.num_res_blocks):
                grid = self._stage(f"down_{level}_{index}", out, grid, embedding, attends)
                skips.append(grid)
            if level < len(channels) - 1:
                grid = self._stage(f"down_{level}_resample", out, grid, embedding, resample="down")
                skips.append(grid)

        if shown is not None:
            grid = grid + self._places(grid, shown.summary)
        grid = self._stage("middle_0", channels[-1], grid, embedding, attends=True)
        grid = self._stage("middle_1", channels[-1], grid, embedding)
        condition = linear(embedding, channels[0], "condition", self.dtype)
        bottleneck = None
        if self.bottleneck_features:
            pooled = nn.silu(GroupNorm(self.num_groups, name="bottleneck_norm")(grid)).mean((1, 2))
            bottleneck = linear(pooled, channels[0], "bottleneck", self.dtype).astype(jnp.float32)

        for level, out in reversed(list(enumerate(channels))):
            attends = self.has_attention(level)
            for index in range(self.num_res_blocks + 1):
                grid = jnp.concatenate([grid, skips.pop()], axis=-1)
                grid = self._stage(f"up_{level}_{index}", out, grid, embedding, attends)
            if level > 0:
                grid = self._stage(f"up_{level}_resample", out, grid, embedding, resample="up")

        features = Features(grid.astype(jnp.float32), condition.astype(jnp.float32), bottleneck)
        out_map = nn.silu(GroupNorm(self.num_groups, name="norm")(grid))
        values = self.patch_size**2 * self.out_channels
        prediction = _zero_convolution(out_map, values, "prediction", self.dtype, wide=True)
        if self.skip_filters:
            prediction = prediction + self._filtered(patches, embedding, values)
        return features, join_patches(prediction, *sides, self.patch_size)

    def _filtered(self, patches: jax.Array, embedding: jax.Array, values: int) -> jax.Array:
        """The sum of all filters of the patches, by weights that start at zero."""
        shape = (self.skip_filters, values)
        count = math.prod(shape)
        filtered = convolution(patches, count, "skip_filters", self.dtype, use_bias=False)
        start = nn.initializers.zeros
        weights = linear(embedding, count, "skip_weights", self.dtype, kernel_init=start)
        filtered = (filtered * weights[:, None, None]).astype(jnp.float32)
        return filtered.reshape(*filtered.shape[:-1], *shape).sum(-2)

    def _places(self, grid: jax.Array, summary: jax.Array) -> jax.Array:
        """What is known of the image as a whole, place by place: convolutions know no places."""
        shape = grid.shape[1:]
        out = linear(summary, math.prod(shape), "shown_places", self.dtype, use_bias=False)
        return out.reshape(-1, *shape).astype(grid.dtype)

    def _embedding(self, t: jax.Array, context: jax.Array | None) -> jax.Array:
        width = 4 * self.width
        embedding = time_embedding(t, self.num_steps, self.width)
        hidden = nn.silu(linear(embedding, width, "time_1", self.dtype))
        embedding = linear(hidden, width, "time_2", self.dtype)
        if context is not None:
            embedding = embedding + linear(context, width, "context", self.dtype)
        return embedding.astype(jnp.float32)

    def _stage(
        self,
        name: str,
        channels: int,
        grid: jax.Array,
        embedding: jax.Array,
        attends: bool = False,
        resample: str = "none",
    ) -> jax.Array:
        """A residual block, and attention where the level has it; `remat` recomputes both."""

        def run(net: UNet, grid: jax.Array, embedding: jax.Array) -> jax.Array:
            block = ResidualBlock(channels, net.num_groups, resample, net.dtype, name=name)
            grid = block(grid, embedding)
            if not attends:
                return grid
            attention = AttentionBlock(
                net.num_head_channels, net.num_groups, net.dtype, name=f"{name}_attention"
            )
            return attention(grid)

        return rematerialised(run, self.remat)(self, grid, embedding)

    def check(self) -> None:
        """Checks the fields before anything is compiled; the class says what it raises."""
        for name in ("width", "num_res_blocks", "num_head_channels", "num_groups"):
            ranges.check_whole(name, getattr(self, name), 1)
        ranges.check_whole("skip_filters", self.skip_filters, 0)
        for mult in self.channel_mults:
            ranges.check_real("channel_mults", mult, 1 / self.width)
        for side in self.attention_resolutions:
            ranges.check_whole("attention_resolutions", side, 1)
        check_patches(self.latent, self.patch_size)
        ranges.check_one_of("dtype", self.dtype, DTYPES)
        ranges.check_one_of("remat", self.remat, REMATS)
        channels, halvings = self.level_channels, len(self.channel_mults) - 1
        if halvings < 0 or any(side % 2**halvings for side in self.map_sides):
            raise errors.invalid(
                "channel_mults",
                self.channel_mults,
                f"levels that halve the sides {self.map_sides} of the map, those of `latent` "
                "over patch_size, to whole numbers",
                "leave some out, or name one" if halvings < 0 else "leave some out",
            )
        attending = {c for level, c in enumerate(channels) if self.has_attention(level)}
        for argument, divisor, divided in (
            ("num_groups", self.num_groups, set(channels)),
            ("num_head_channels", self.num_head_channels, attending | {channels[-1]}),
        ):
            odd = sorted(c for c in divided if c % divisor)
            if odd:
                raise errors.invalid(
                    argument, divisor, f"a divisor of the {odd[0]} channels", "change either"
                )
        heights = tuple(self.map_sides[0] >> level for level in range(len(channels)))
        idle = tuple(side for side in self.attention_resolutions if side not in heights)
        if idle and self.attention_resolutions != UNet.attention_resolutions:
            _warn_of_idle(idle, heights)


class ResidualBlock(nn.Module):
    """Two convolutions beside the identity; the second norm is scaled and shifted by t.

    Resampling happens before the first convolution, on both ways: to half the resolution by the
    mean of 2 × 2 pixels, to twice by repeating each pixel.

    Attributes:
        channels: of the output.
        num_groups: as of `UNet`.
        resample: "none", "down" or "up".
        dtype: as of `UNet`.
    """

    channels: int
    num_groups: int
    resample: str = "none"
    dtype: str = "float32"

    @nn.compact
    def __call__(self, grid: jax.Array, embedding: jax.Array) -> jax.Array:
        """Grid (batch, height, width, any), activated embedding (batch, any) → grid."""
        resample = {"none": lambda x: x, "down": _halve, "up": _double}[self.resample]
        hidden = resample(nn.silu(GroupNorm(self.num_groups, name="norm_1")(grid)))
        hidden = convolution(hidden, self.channels, "conv_1", self.dtype)
        modulation = linear(embedding, 2 * self.channels, "modulation", self.dtype)
        scale, shift = jnp.split(modulation.astype(jnp.float32), 2, axis=-1)
        hidden = nn.silu(GroupNorm(self.num_groups, name="norm_2")(hidden, scale, shift))
        hidden = _zero_convolution(hidden, self.channels, "conv_2", self.dtype)
        grid = resample(grid)
        if grid.shape[-1] != self.channels:
            grid = linear(grid, self.channels, "skip", self.dtype)
        return grid + hidden


class AttentionBlock(nn.Module):
    """Self-attention of all positions of a map, beside the identity; attributes as of `UNet`."""

    num_head_channels: int
    num_groups: int
    dtype: str = "float32"

    @nn.compact
    def __call__(self, grid: jax.Array) -> jax.Array:
        """Grid (batch, height, width, channels) → the same shape."""
        batch, height, width, channels = grid.shape
        tokens = GroupNorm(self.num_groups, name="norm")(grid)
        attended = self_attention(
            tokens.reshape(batch, height * width, channels),
            channels // self.num_head_channels,
            out_init=nn.initializers.zeros,
            dtype=self.dtype,
        )
        return grid + attended.reshape(grid.shape)


class GroupNorm(nn.Module):
    """Group norm (Wu & He 2018) by the sums of each channel, then of each group, in float32.

    Channels are summed first, as a map split into groups makes poor use of the CPU's vectors. Their
    number is a multiple of `num_groups`.

    Example:
        >>> norm, grid = GroupNorm(2), jnp.arange(16.0).reshape(1, 2, 2, 4)
        >>> out, _ = norm.init_with_output(jax.random.key(0), grid)
        >>> jnp.abs(out[..., :2].mean()).item() < 1e-6
        True
    """

    num_groups: int

    @nn.compact
    def __call__(
        self, grid: jax.Array, scale: jax.Array | None = None, shift: jax.Array | None = None
    ) -> jax.Array:
        """Grid (batch, height, width, channels) → normalised, times 1 + scale, plus shift.

        Scale and shift are (batch, channels), or both None. The dtype is that of the grid.
        """
        dtype, grid = grid.dtype, grid.astype(jnp.float32)
        channels = grid.shape[-1]
        gain = self.param("scale", nn.initializers.ones, (channels,))
        offset = self.param("bias", nn.initializers.zeros, (channels,))
        mean, square = self._pool(grid), self._pool(grid**2)
        gain = gain * jax.lax.rsqrt(jnp.maximum(square - mean**2, 0) + 1e-5)
        offset = offset - mean * gain
        if scale is not None and shift is not None:
            gain, offset = gain * (1 + scale), offset * (1 + scale) + shift
        return (grid * gain[:, None, None] + offset[:, None, None]).astype(dtype)

    def _pool(self, grid: jax.Array) -> jax.Array:
        """The mean of each channel's group, (batch, channels)."""
        by_channel = jnp.mean(grid, axis=(1, 2))
        # Masked sums in place of a split into groups and a repeat: CPUs are faster at them.
        size = grid.shape[-1] // self.num_groups
        member = jnp.arange(grid.shape[-1])[:, None] // size == jnp.arange(self.num_groups)
        by_group = jnp.where(member, by_channel[:, :, None], 0).sum(axis=1) / size
        return jnp.where(member, by_group[:, None, :], 0).sum(axis=2)


@functools.cache
def _warn_of_idle(idle: tuple[int, ...], heights: tuple[int, ...]) -> None:
    """Once, as a network is traced many times."""
    logging.warning(
        "`attention_resolutions` names the heights %s, which no map has: the maps of this U-Net "
        "have %s rows. Name some of these, or leave it empty for attention in the middle alone.",
        ", ".join(map(str, idle)),
        ", ".join(map(str, heights)),
    )


def _halve(grid: jax.Array) -> jax.Array:
    batch, height, width, channels = grid.shape
    return grid.reshape(batch, height // 2, 2, width // 2, 2, channels).mean((2, 4))


def _double(grid: jax.Array) -> jax.Array:
    return jnp.repeat(jnp.repeat(grid, 2, axis=1), 2, axis=2)


_zero_convolution = functools.partial(convolution, kernel_init=nn.initializers.zeros)
