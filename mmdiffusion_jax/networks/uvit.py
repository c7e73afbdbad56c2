"""U-ViT: a vision transformer with time as a token and long skip connections (Bao et al. 2023)."""

import functools
from collections.abc import Mapping
from types import MappingProxyType

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmdiffusion_jax import errors, ranges
from mmdiffusion_jax.model import Features, Shown
from mmdiffusion_jax.networks.attention import check_heads, self_attention
from mmdiffusion_jax.networks.blocks import REMATS, rematerialised, run_blocks
from mmdiffusion_jax.networks.embeddings import time_embedding
from mmdiffusion_jax.networks.patches import check_patches, join_patches, split_patches
from mmdiffusion_jax.networks.precision import DTYPES, convolution, linear

UVIT_SIZES: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {
        "S": {"width": 512, "depth": 13, "num_heads": 8},
        "M": {"width": 768, "depth": 17, "num_heads": 12},
        "L": {"width": 1024, "depth": 21, "num_heads": 16},
    }
)
"""The fields of the published U-ViT-S, M and L (Bao et al. 2023, table 1).

S with `patch_size` 2 on (32, 32, 3) is the S/2 of CIFAR-10 (44 M), M with 4 on (64, 64, 3) the M/4
of ImageNet 64 × 64 (131 M), L with 2 on (32, 32, 4) the L/2 of ImageNet 256 × 256 (287 M). The
published table of classes is left out, as labels enter through a modality; a context takes the
place of the token of the class.
"""


class UViT(nn.Module):
    """The shared denoiser as a U-ViT: the time, the context and the patches are tokens.

    The first blocks' tokens are joined to the last blocks' by concatenation and a linear layer.
    `UVIT_SIZES` has the published sizes.

    Attributes:
        latent: (height, width, channels) of the state.
        out_channels: channels of the prediction; twice the latent's for a learned variance.
        num_steps: T; t is embedded as a share of it.
        patch_size: side of a square patch, divides height and width.
        width: of the tokens, even, a multiple of `num_heads`.
        depth: number of blocks, odd.
        num_heads: attention heads.
        mlp_ratio: hidden width of the feed-forward layer over `width`.
        final_conv: whether a 3 × 3 convolution of the prediction ends the network.
        time_scale: t is embedded as time_scale · t/T; the published models in continuous time
            have 999, those in 1,000 steps 1000.
        dtype: "float32" or "bfloat16", of the products and the tokens. Parameters, norms, softmax,
            features and prediction are float32 in any case.
        remat: what of a block is saved for the backward pass, one of `networks.blocks.REMATS`.
        scan_layers: whether one compiled block stands for all before the middle and one for all
            after it; the parameters are then stacked (`stack_layers`, `unstack_layers`).

    Raises:
        ValueError: a number out of its range, a patch size that does not divide the latent, heads
            that do not divide the width, an odd width, an even depth, or an unknown dtype or remat.

    Example:
        >>> net = UViT((8, 8, 1), out_channels=1, num_steps=10, width=16, depth=3, num_heads=2)
        >>> z, t = jnp.zeros((2, 8, 8, 1)), jnp.array([1, 10])
        >>> run = jax.eval_shape(net.init_with_output, jax.random.key(0), z, t)
        >>> (features, prediction), _ = run
        >>> features.grid.shape, features.condition.shape, prediction.shape
        ((2, 4, 4, 16), (2, 16), (2, 8, 8, 1))
    """

    latent: tuple[int, int, int]
    out_channels: int
    num_steps: int
    patch_size: int = 2
    width: int = 64
    depth: int = 3
    num_heads: int = 4
    mlp_ratio: int = 4
    final_conv: bool = True
    time_scale: float = 1000.0
    dtype: str = "float32"
    remat: str = "none"
    scan_layers: bool = False

    @nn.compact
    def __call__(
        self,
        z_t: jax.Array,
        t: jax.Array,
        context: jax.Array | None = None,
        shown: Shown | None = None,
    ) -> tuple[Features, jax.Array]:
        """z_t (batch, *latent), t (batch,) → (features, prediction (batch, h, w, out_channels)).

        The context (batch, features) is what conditions the network beside t, or None. It is one
        more token, whose position is the bias of its layer. What is shown is added to the patches,
        and its summary to the time. The features are the tokens after the last norm: the patches'
        as the grid, the time's as the condition.
        """
        self.check()
        patch = self.patch_size
        rows, columns = self.latent[0] // patch, self.latent[1] // patch
        time = time_embedding(t, self.num_steps, self.width, self.time_scale)
        patches = _linear(split_patches(z_t, patch), self.width, "patches", self.dtype)
        if shown is not None:
            maps = split_patches(shown.maps, patch)
            patches = patches + linear(maps, self.width, "shown", self.dtype, use_bias=False)
            time = time + linear(
                shown.summary, self.width, "shown_summary", self.dtype, use_bias=False
            )
        position = self.param(
            "position", nn.initializers.normal(0.02), (1 + rows * columns, self.width)
        )
        tokens = jnp.concatenate([time[:, None], patches], axis=1) + position
        if context is not None:
            token = _linear(context, self.width, "context", self.dtype)
            tokens = jnp.concatenate([tokens, token[:, None]], axis=1)
        tokens = _norm("norm")(self._run_blocks(tokens.astype(self.dtype)))
        patches = tokens[:, 1 : 1 + rows * columns]
        features = Features(patches.reshape(-1, rows, columns, self.width), tokens[:, 0])
        out = _linear(patches, patch**2 * self.out_channels, "prediction", self.dtype, wide=True)
        out = join_patches(out, rows, columns, patch)
        if self.final_conv:
            out = convolution(out, self.out_channels, "final", self.dtype, wide=True)
        return features, out

    def _run_blocks(self, tokens: jax.Array) -> jax.Array:
        def make(name: str) -> Block:
            return Block(self.num_heads, self.mlp_ratio, self.dtype, name=name)

        run = functools.partial(run_blocks, make, scan=self.scan_layers, remat=self.remat)
        half = self.depth // 2
        tokens, skips = run("in_blocks", half, tokens)
        middle = rematerialised(lambda block, tokens: block(tokens), self.remat)
        tokens, _ = run("out_blocks", half, middle(make("middle"), tokens), each=skips[::-1])
        return tokens

    def check(self) -> None:
        """Checks the fields before anything is compiled; the class says what it raises."""
        for name in ("width", "depth", "num_heads", "mlp_ratio"):
            ranges.check_whole(name, getattr(self, name), 1)
        ranges.check_real("time_scale", self.time_scale, 0, ends="()")
        check_patches(self.latent, self.patch_size)
        check_heads(self.num_heads, self.width)
        ranges.check_one_of("dtype", self.dtype, DTYPES)
        ranges.check_one_of("remat", self.remat, REMATS)
        if self.width % 2:
            raise errors.invalid("width", self.width, "an even number, for t", "add one")
        if self.depth % 2 == 0:
            raise errors.invalid(
                "depth",
                self.depth,
                "an odd number, as one block stands between the pairs",
                "add one",
            )


class Block(nn.Module):
    """A transformer block, norms first, that may take in the tokens of an earlier block.

    The attributes are those of `UViT`.
    """

    num_heads: int
    mlp_ratio: int
    dtype: str = "float32"

    @nn.compact
    def __call__(self, tokens: jax.Array, skip: jax.Array | None = None) -> jax.Array:
        """Tokens (batch, length, width), an earlier block's tokens or None → tokens."""
        width = tokens.shape[-1]
        if skip is not None:
            both = jnp.concatenate([tokens, skip], axis=-1)
            tokens = _linear(both, width, "skip", self.dtype)
        tokens = tokens + self_attention(
            _norm("norm_1")(tokens).astype(self.dtype),
            self.num_heads,
            use_bias=False,
            kernel_init=_NORMAL,
            dtype=self.dtype,
        )
        hidden = _norm("norm_2")(tokens).astype(self.dtype)
        hidden = _linear(hidden, self.mlp_ratio * width, "hidden", self.dtype)
        return tokens + _linear(nn.gelu(hidden, approximate=False), width, "narrow", self.dtype)


_NORMAL = nn.initializers.truncated_normal(0.02)
_linear = functools.partial(linear, kernel_init=_NORMAL)


def _norm(name: str) -> nn.LayerNorm:
    return nn.LayerNorm(epsilon=1e-5, dtype=jnp.float32, name=name)
