"""A diffusion transformer on patches with adaLN-zero conditioning (Peebles & Xie 2023)."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mmdiffusion_jax import errors, ranges
from mmdiffusion_jax.model import Features, Shown
from mmdiffusion_jax.networks.attention import check_heads, self_attention
from mmdiffusion_jax.networks.blocks import REMATS, run_blocks
from mmdiffusion_jax.networks.embeddings import (
    grid_embedding,
    rotary_angles,
    rotated,
    time_embedding,
)
from mmdiffusion_jax.networks.patches import check_patches, join_patches, split_patches
from mmdiffusion_jax.networks.precision import DTYPES, linear

_PUBLISHED = {"frequencies": 256, "positions": "sincos"}

DIT_SIZES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "S": {"width": 384, "depth": 12, "num_heads": 6, **_PUBLISHED},
        "B": {"width": 768, "depth": 12, "num_heads": 12, **_PUBLISHED},
        "L": {"width": 1024, "depth": 24, "num_heads": 16, **_PUBLISHED},
        "XL": {"width": 1152, "depth": 28, "num_heads": 16, **_PUBLISHED},
    }
)
"""The fields of the published DiT-S, B, L and XL (Peebles & Xie 2023, table 1).

With `patch_size` 2 and a latent of (32, 32, 4) these are the S/2 (33 M), B/2 (130 M), L/2 (458 M)
and XL/2 (675 M) of ImageNet 256 × 256. They lack the published table of classes, as labels enter
through a modality, and have one more layer where a context is given. Their positions are fixed and
no parameters.
"""


class DiT(nn.Module):
    """The shared denoiser: z_t and t → features for the heads and a prediction in the latent.

    `DIT_SIZES` has the published sizes. Weights start as Flax draws them, except the zeros of
    adaLN-zero.

    Attributes:
        latent: (height, width, channels) of the state.
        out_channels: channels of the prediction; twice the latent's for a learned variance.
        num_steps: T; t is embedded as a share of it.
        patch_size: side of a square patch, divides height and width.
        width: of the tokens, a multiple of `num_heads`.
        depth: number of blocks.
        num_heads: attention heads.
        mlp_ratio: hidden width of the feed-forward layer over `width`.
        frequencies: how many sines and cosines of t there are; 0 is as many as `width`.
        positions: "sincos" for fixed ones, which need a width divisible by 4, or "learned". Learned
            ones begin small and take thousands of steps until they matter; pictures are mosaics of
            unrelated patches until then.
        rotary: whether queries and keys are also turned by their positions (Su et al. 2021), which
            needs a depth of a head divisible by 4.
        qk_norm: whether queries and keys are divided by their root mean square first (Henry et al.
            2020), with a learned scale.
        norm: of the tokens, "layer" or "rms" (Zhang & Sennrich 2019).
        feed_forward: "gelu", or "swiglu" (Shazeer 2020) of two thirds of its hidden width, so that
            it has as many parameters.
        context_tokens: how many tokens of the summary of what is shown precede the patches, beside
            the condition; 0 for none.
        dtype: "float32" or "bfloat16", of the products and the tokens. Parameters, norms, softmax,
            modulation, features and prediction are float32 in any case.
        remat: what of a block is saved for the backward pass, one of `networks.blocks.REMATS`.
        scan_layers: whether one compiled block runs `depth` times; the parameters are then stacked
            (`stack_layers`, `unstack_layers`).

    Raises:
        ValueError: a number out of its range, a patch size that does not divide the latent, heads
            that do not divide the width, one frequency alone, unknown positions or a width they
            cannot have, or an unknown dtype or remat.

    Example:
        >>> net = DiT((8, 8, 1), out_channels=1, num_steps=10, width=16, depth=1, num_heads=2)
        >>> z, t = jnp.zeros((2, 8, 8, 1)), jnp.array([1, 10])
        >>> run = jax.eval_shape(net.init_with_output, jax.random.key(0), z, t)
        >>> (features, prediction), _ = run
        >>> features.grid.shape, prediction.shape
        ((2, 4, 4, 16), (2, 8, 8, 1))
    """

    latent: tuple[int, int, int]
    out_channels: int
    num_steps: int
    patch_size: int = 2
    width: int = 64
    depth: int = 3
    num_heads: int = 4
    mlp_ratio: int = 4
    frequencies: int = 0
    positions: str = "sincos"
    rotary: bool = False
    qk_norm: bool = False
    norm: str = "layer"
    feed_forward: str = "gelu"
    context_tokens: int = 0
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

        The context (batch, features) is what conditions the network beside t, or None; what is
        shown is added to the patches, and its summary to the condition.
        """
        self.check()
        patch = self.patch_size
        rows, columns = self.latent[0] // patch, self.latent[1] // patch
        condition = self._condition(t, context, shown)
        tokens = linear(split_patches(z_t, patch), self.width, "patches", self.dtype)
        if shown is not None:
            maps = split_patches(shown.maps, patch)
            tokens = tokens + linear(maps, self.width, "shown", self.dtype, use_bias=False)
        tokens = tokens + self._positions(rows, columns)
        first = 0
        if shown is not None and self.context_tokens:
            first = self.context_tokens
            tokens = jnp.concatenate([self._context_tokens(shown), tokens], axis=1)
        tokens = tokens.astype(self.dtype)
        places = (first, rows, columns) if self.rotary else None
        tokens, _ = run_blocks(
            lambda name: self._block(name, places),
            "blocks",
            self.depth,
            tokens,
            condition,
            scan=self.scan_layers,
            remat=self.remat,
        )
        tokens = tokens[:, first:]
        grid = tokens.reshape(-1, rows, columns, self.width).astype(jnp.float32)

        out = _modulate(_normed(tokens, self.norm), *_modulation(condition, 2, self.dtype))
        values, zeros = patch**2 * self.out_channels, nn.initializers.zeros
        out = linear(out, values, "prediction", self.dtype, wide=True, kernel_init=zeros)
        return Features(grid, condition), join_patches(out, rows, columns, patch)

    def _condition(self, t: jax.Array, context: jax.Array | None, shown: Shown | None) -> jax.Array:
        embedding = time_embedding(t, self.num_steps, self.frequencies or self.width)
        hidden = nn.silu(linear(embedding, self.width, "time_1", self.dtype))
        condition = linear(hidden, self.width, "time_2", self.dtype)
        if context is not None:
            condition = condition + linear(context, self.width, "context", self.dtype)
        if shown is not None:
            condition = condition + linear(
                shown.summary, self.width, "shown_summary", self.dtype, use_bias=False
            )
        return condition.astype(jnp.float32)

    def _block(self, name: str, places: tuple[int, int, int] | None) -> "Block":
        return Block(
            self.num_heads,
            self.mlp_ratio,
            self.dtype,
            self.norm,
            self.feed_forward,
            self.qk_norm,
            places,
            name=name,
        )

    def _context_tokens(self, shown: Shown) -> jax.Array:
        count, width = self.context_tokens, self.width
        tokens = linear(shown.summary, count * width, "context_tokens", self.dtype)
        position = self.param("context_position", nn.initializers.normal(0.02), (count, width))
        return tokens.reshape(-1, count, width) + position

    def _positions(self, rows: int, columns: int) -> jax.Array:
        if self.positions == "sincos":
            return jnp.asarray(grid_embedding(rows, columns, self.width))
        return self.param("position", nn.initializers.normal(0.02), (rows * columns, self.width))

    def check(self) -> None:
        """Checks the fields before anything is compiled; the class says what it raises."""
        for name in ("width", "num_heads", "mlp_ratio"):
            ranges.check_whole(name, getattr(self, name), 1)
        for name in ("depth", "frequencies", "context_tokens"):
            ranges.check_whole(name, getattr(self, name))
        check_patches(self.latent, self.patch_size)
        check_heads(self.num_heads, self.width)
        ranges.check_one_of("dtype", self.dtype, DTYPES)
        ranges.check_one_of("remat", self.remat, REMATS)
        ranges.check_one_of("positions", self.positions, ("learned", "sincos"))
        ranges.check_one_of("norm", self.norm, ("layer", "rms"))
        ranges.check_one_of("feed_forward", self.feed_forward, ("gelu", "swiglu"))
        if self.frequencies == 1:
            raise errors.invalid("frequencies", self.frequencies, "0, or 2 and more", "raise it")
        if self.positions == "sincos" and self.width % 4:
            mend = "change it, or set positions='learned'"
            raise errors.invalid("width", self.width, "a multiple of 4 for 'sincos'", mend)
        if self.rotary and self.width % (4 * self.num_heads):
            expected = f"a multiple of {4 * self.num_heads}, 4 for each head"
            raise errors.invalid("width", self.width, expected, "change it for `rotary`")


class Block(nn.Module):
    """Attention and feed-forward, each scaled, shifted and gated by the condition (adaLN-zero).

    The attributes are those of `DiT`, and the places of the tokens: how many come before the grid,
    its rows and its columns; None where queries and keys do not know them.
    """

    num_heads: int
    mlp_ratio: int
    dtype: str = "float32"
    norm: str = "layer"
    feed_forward: str = "gelu"
    qk_norm: bool = False
    places: tuple[int, int, int] | None = None

    @nn.compact
    def __call__(self, tokens: jax.Array, condition: jax.Array) -> jax.Array:
        """Tokens (batch, length, width), condition (batch, width) → tokens."""
        width = tokens.shape[-1]
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = _modulation(condition, 6, self.dtype)
        attended = _modulate(_normed(tokens, self.norm), shift_1, scale_1).astype(self.dtype)
        prepare = self._prepare if self.qk_norm or self.places else None
        attended = self_attention(attended, self.num_heads, dtype=self.dtype, prepare=prepare)
        tokens = (tokens + gate_1 * attended).astype(self.dtype)
        hidden = _modulate(_normed(tokens, self.norm), shift_2, scale_2).astype(self.dtype)
        hidden = self._hidden(hidden, self.mlp_ratio * width)
        hidden = linear(hidden, width, "narrow", self.dtype)
        return (tokens + gate_2 * hidden).astype(self.dtype)

    def _prepare(self, x: jax.Array, name: str) -> jax.Array:
        """Queries or keys (batch, length, heads, depth), normalised and turned."""
        if self.qk_norm:
            x = nn.RMSNorm(dtype=jnp.float32, name=f"{name}_norm")(x)
        if self.places is not None:
            first, rows, columns = self.places
            angles = rotary_angles(rows, columns, x.shape[-1])
            x = rotated(x, np.pad(angles, [(first, 0), (0, 0)]))
        return x.astype(self.dtype)

    def _hidden(self, x: jax.Array, width: int) -> jax.Array:
        if self.feed_forward == "gelu":
            return nn.gelu(linear(x, width, "hidden", self.dtype))
        narrower = 2 * width // 3
        gate = nn.silu(linear(x, narrower, "gate", self.dtype))
        return gate * linear(x, narrower, "hidden", self.dtype)


def _normed(tokens: jax.Array, norm: str) -> jax.Array:
    """Tokens without learned scales, which the condition gives."""
    if norm == "rms":
        return nn.RMSNorm(use_scale=False, dtype=jnp.float32)(tokens)
    return nn.LayerNorm(use_bias=False, use_scale=False, dtype=jnp.float32)(tokens)


def _modulation(condition: jax.Array, count: int, dtype: str) -> list[jax.Array]:
    """(batch, width) → `count` arrays (batch, 1, width) in float32."""
    features, zeros = count * condition.shape[-1], nn.initializers.zeros
    modulation = linear(nn.silu(condition), features, "modulation", dtype, kernel_init=zeros)
    return jnp.split(modulation.astype(jnp.float32)[:, None], count, axis=-1)


def _modulate(tokens: jax.Array, shift: jax.Array, scale: jax.Array) -> jax.Array:
    return tokens * (1 + scale) + shift
