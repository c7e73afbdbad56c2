"""A diffusion transformer on patches with adaLN-zero conditioning (Peebles & Xie 2023)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmdiffusion_jax import errors
from mmdiffusion_jax.modalities import Features


class DiT(nn.Module):
    """The shared denoiser: z_t and t → features for the heads and a prediction in the latent.

    Attributes:
        latent: (height, width, channels) of the state.
        out_channels: channels of the prediction; twice the latent's for a learned variance.
        num_steps: T; t is embedded as a share of it.
        patch_size: side of a square patch, divides height and width.
        width: of the tokens, a multiple of `num_heads`.
        depth: number of blocks.
        num_heads: attention heads.
        mlp_ratio: hidden width of the feed-forward layer over `width`.

    Raises:
        ValueError: a patch size that does not divide the latent, heads that do not divide the
            width.

    Example:
        >>> net = DiT((8, 8, 1), out_channels=1, num_steps=10, width=16, depth=1, num_heads=2)
        >>> z, t = jnp.zeros((2, 8, 8, 1)), jnp.array([1, 10])
        >>> (features, prediction), _ = net.init_with_output(jax.random.key(0), z, t)
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
        height, width, channels = self.latent
        patch = self.patch_size
        self._check()
        rows, columns = height // patch, width // patch
        condition = nn.Dense(self.width)(nn.silu(nn.Dense(self.width)(self._embed(t))))
        if context is not None:
            condition = condition + nn.Dense(self.width, name="context")(context)
        tokens = z_t.reshape(-1, rows, patch, columns, patch, channels)
        tokens = tokens.transpose(0, 1, 3, 2, 4, 5).reshape(-1, rows * columns, patch**2 * channels)
        position = self.param(
            "position", nn.initializers.normal(0.02), (rows * columns, self.width)
        )
        tokens = nn.Dense(self.width)(tokens) + position
        for _ in range(self.depth):
            tokens = Block(self.num_heads, self.mlp_ratio)(tokens, condition)
        features = Features(tokens.reshape(-1, rows, columns, self.width), condition)

        shift, scale = jnp.split(_zero_dense(2 * self.width)(nn.silu(condition)), 2, axis=-1)
        out = _modulate(_norm()(tokens), shift, scale)
        out = _zero_dense(patch**2 * self.out_channels)(out)
        out = out.reshape(-1, rows, columns, patch, patch, self.out_channels)
        out = out.transpose(0, 1, 3, 2, 4, 5).reshape(-1, height, width, self.out_channels)
        return features, out

    def _embed(self, t: jax.Array) -> jax.Array:
        """Sines and cosines of 1000 t/T at geometric frequencies, (batch, width)."""
        half = self.width // 2
        frequencies = jnp.exp(-jnp.log(10000.0) * jnp.arange(half, dtype=jnp.float32) / half)
        angles = (1000 / self.num_steps) * t.astype(jnp.float32)[:, None] * frequencies
        return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)

    def _check(self) -> None:
        if self.latent[0] % self.patch_size or self.latent[1] % self.patch_size:
            raise ValueError(
                errors.message(
                    "patch_size",
                    self.patch_size,
                    f"a divisor of the latent's sides {self.latent[:2]}",
                    "choose another",
                )
            )
        if self.width % self.num_heads:
            raise ValueError(
                errors.message(
                    "num_heads", self.num_heads, f"a divisor of the width {self.width}", "change it"
                )
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
        modulation = _zero_dense(6 * width)(nn.silu(condition))
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = jnp.split(modulation, 6, axis=-1)
        attended = self._attend(_modulate(_norm()(tokens), shift_1, scale_1))
        tokens = tokens + gate_1[:, None] * attended
        hidden = _modulate(_norm()(tokens), shift_2, scale_2)
        hidden = nn.Dense(width)(nn.gelu(nn.Dense(self.mlp_ratio * width)(hidden)))
        return tokens + gate_2[:, None] * hidden

    def _attend(self, tokens: jax.Array) -> jax.Array:
        # Separate projections: a fused one that is sliced afterwards is slower on CPU.
        width, depth = tokens.shape[-1], tokens.shape[-1] // self.num_heads
        query, key, value = (
            nn.Dense(width, name=name)(tokens).reshape(*tokens.shape[:2], self.num_heads, depth)
            for name in ("query", "key", "value")
        )
        mixed = jax.lax.platform_dependent(
            query, key, value, cuda=jax.nn.dot_product_attention, default=explicit_attention
        )
        return nn.Dense(width, name="out")(mixed.reshape(tokens.shape))


def explicit_attention(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
    """softmax(q kᵀ / sqrt(depth)) v as two batched products; the fastest form on CPU.

    Args:
        query: (batch, length, heads, depth).
        key: the same shape.
        value: the same shape.

    Returns:
        (batch, length, heads, depth).
    """
    query, key, value = (x.transpose(0, 2, 1, 3) for x in (query, key, value))
    scores = query @ key.swapaxes(-1, -2) * query.shape[-1] ** -0.5
    return (jax.nn.softmax(scores) @ value).transpose(0, 2, 1, 3)


def _norm() -> nn.LayerNorm:
    return nn.LayerNorm(use_bias=False, use_scale=False)


def _zero_dense(features: int) -> nn.Dense:
    return nn.Dense(features, kernel_init=nn.initializers.zeros)


def _modulate(tokens: jax.Array, shift: jax.Array, scale: jax.Array) -> jax.Array:
    return tokens * (1 + scale[:, None]) + shift[:, None]
