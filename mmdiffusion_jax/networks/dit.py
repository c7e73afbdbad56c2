"""A diffusion transformer on patches with adaLN-zero conditioning (Peebles & Xie 2023)."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmdiffusion_jax import errors
from mmdiffusion_jax.modalities import Features
from mmdiffusion_jax.networks.attention import check_heads, self_attention
from mmdiffusion_jax.networks.embeddings import grid_embedding, time_embedding
from mmdiffusion_jax.networks.patches import check_patches, join_patches, split_patches

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
and XL/2 (675 M) of ImageNet 256 × 256. Left out here are the published table of classes, as labels
enter through a modality, and the positions, which are no parameters as they are fixed. Added is one
layer where a context is given.
"""


class DiT(nn.Module):
    """The shared denoiser: z_t and t → features for the heads and a prediction in the latent.

    `DIT_SIZES` has the published sizes. Weights start as Flax draws them, but for the zeros of
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
        positions: "learned", or "sincos" for fixed ones, which need a width divisible by 4.

    Raises:
        ValueError: a patch size that does not divide the latent, heads that do not divide the
            width, fewer than 2 frequencies, unknown positions or a width they cannot have.

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
    positions: str = "learned"

    @nn.compact
    def __call__(
        self, z_t: jax.Array, t: jax.Array, context: jax.Array | None = None
    ) -> tuple[Features, jax.Array]:
        """z_t (batch, *latent), t (batch,) → (features, prediction (batch, h, w, out_channels)).

        Args:
            z_t: the state.
            t: its time.
            context: (batch, features), what else the network is told beside t, or None.
        """
        self._check()
        patch = self.patch_size
        rows, columns = self.latent[0] // patch, self.latent[1] // patch
        embedding = time_embedding(t, self.num_steps, self.frequencies or self.width)
        hidden = nn.silu(nn.Dense(self.width, name="time_1")(embedding))
        condition = nn.Dense(self.width, name="time_2")(hidden)
        if context is not None:
            condition = condition + nn.Dense(self.width, name="context")(context)
        tokens = nn.Dense(self.width, name="patches")(split_patches(z_t, patch))
        tokens = tokens + self._positions(rows, columns)
        for index in range(self.depth):
            block = Block(self.num_heads, self.mlp_ratio, name=f"blocks_{index}")
            tokens = block(tokens, condition)
        features = Features(tokens.reshape(-1, rows, columns, self.width), condition)

        modulation = _zero_dense(2 * self.width, "modulation")(nn.silu(condition))
        shift, scale = jnp.split(modulation, 2, axis=-1)
        out = _modulate(_norm()(tokens), shift, scale)
        out = _zero_dense(patch**2 * self.out_channels, "prediction")(out)
        return features, join_patches(out, rows, columns, patch)

    def _positions(self, rows: int, columns: int) -> jax.Array:
        if self.positions == "sincos":
            return jnp.asarray(grid_embedding(rows, columns, self.width))
        return self.param("position", nn.initializers.normal(0.02), (rows * columns, self.width))

    def _check(self) -> None:
        check_patches(self.latent, self.patch_size)
        check_heads(self.num_heads, self.width)
        if self.positions not in ("learned", "sincos"):
            raise ValueError(errors.unknown("positions", self.positions, ("learned", "sincos")))
        if self.frequencies < 0 or self.frequencies == 1:
            raise ValueError(
                errors.message("frequencies", self.frequencies, "0, or 2 and more", "raise it")
            )
        if self.positions == "sincos" and self.width % 4:
            raise ValueError(
                errors.message("width", self.width, "a multiple of 4", "change it for 'sincos'")
            )


class Block(nn.Module):
    """Attention and feed-forward, each scaled, shifted and gated by the condition (adaLN-zero).

    Attributes:
        num_heads: attention heads.
        mlp_ratio: hidden width over the tokens' width.
    """

    num_heads: int
    mlp_ratio: int

    @nn.compact
    def __call__(self, tokens: jax.Array, condition: jax.Array) -> jax.Array:
        """Tokens (batch, length, width), condition (batch, width) → tokens."""
        width = tokens.shape[-1]
        modulation = _zero_dense(6 * width, "modulation")(nn.silu(condition))
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = jnp.split(modulation, 6, axis=-1)
        attended = self_attention(_modulate(_norm()(tokens), shift_1, scale_1), self.num_heads)
        tokens = tokens + gate_1[:, None] * attended
        hidden = _modulate(_norm()(tokens), shift_2, scale_2)
        hidden = nn.gelu(nn.Dense(self.mlp_ratio * width, name="hidden")(hidden))
        return tokens + gate_2[:, None] * nn.Dense(width, name="narrow")(hidden)


def _norm() -> nn.LayerNorm:
    return nn.LayerNorm(use_bias=False, use_scale=False)


def _zero_dense(features: int, name: str) -> nn.Dense:
    return nn.Dense(features, kernel_init=nn.initializers.zeros, name=name)


def _modulate(tokens: jax.Array, shift: jax.Array, scale: jax.Array) -> jax.Array:
    return tokens * (1 + scale[:, None]) + shift[:, None]
