"""The published DiT and U-ViT in PyTorch, by the names of their checkpoints; an oracle for ours."""

import math

import torch
from torch import nn
from torch.nn import functional


def sinusoids(t: torch.Tensor, width: int) -> torch.Tensor:
    rates = 10000.0 ** (-torch.arange(width // 2) / (width // 2))
    angles = t.float()[:, None] * rates
    return torch.cat([angles.cos(), angles.sin()], 1)


def fold(tokens: torch.Tensor, channels: int) -> torch.Tensor:
    batch, length, size = tokens.shape
    side, patch = math.isqrt(length), math.isqrt(size // channels)
    image = tokens.view(batch, side, side, patch, patch, channels)
    return image.permute(0, 5, 1, 3, 2, 4).reshape(batch, channels, side * patch, side * patch)


class Attention(nn.Module):
    def __init__(self, width: int, heads: int, bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width, bias=bias), nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, width = x.shape
        qkv = self.qkv(x).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(*qkv)
        return self.proj(mixed.transpose(1, 2).reshape(batch, length, width))


class Mlp(nn.Module):
    def __init__(self, width: int, approximate: str) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.approximate = approximate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(functional.gelu(self.fc1(x), approximate=self.approximate))


class Patches(nn.Module):
    def __init__(self, channels: int, width: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, width, patch, stride=patch)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.proj(x).flatten(2).transpose(1, 2)


def modulate(x: torch.Tensor, shift: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    plain = functional.layer_norm(x, x.shape[-1:], eps=1e-6)
    return torch.addcmul(shift[:, None], plain, 1 + scale[:, None])


class DiTBlock(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attn, self.mlp = Attention(width, heads, bias=True), Mlp(width, "tanh")
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def forward(self, x: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        shift, scale, gate, shift_2, scale_2, gate_2 = self.adaLN_modulation(c).chunk(6, 1)
        x = x + gate[:, None] * self.attn(modulate(x, shift, scale))
        return x + gate_2[:, None] * self.mlp(modulate(x, shift_2, scale_2))


class Time(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width))


class Classes(nn.Module):
    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.embedding_table = nn.Embedding(classes + 1, width)


class Last(nn.Module):
    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, out)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))


class TorchDiT(nn.Module):
    """DiT; left out, `out` is twice the channels, for both the noise and the variance."""

    def __init__(
        self,
        side: int,
        channels: int,
        width: int,
        depth: int,
        heads: int,
        classes: int = 1000,
        out: int = 0,
    ) -> None:
        super().__init__()
        self.channels = out or 2 * channels
        self.x_embedder = Patches(channels, width, 2)
        self.t_embedder, self.y_embedder = Time(width), Classes(classes, width)
        self.pos_embed = nn.Parameter(torch.zeros(1, (side // 2) ** 2, width))
        self.blocks = nn.ModuleList(DiTBlock(width, heads) for _ in range(depth))
        self.final_layer = Last(width, 4 * self.channels)

    def features(
        self, x: torch.Tensor, t: torch.Tensor, y: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.x_embedder(x) + self.pos_embed
        c = self.t_embedder.mlp(sinusoids(t, 256))
        if y is not None:
            c = c + self.y_embedder.embedding_table(y)
        for block in self.blocks:
            x = block(x, c)
        return x, c

    def read(self, x: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        shift, scale = self.final_layer.adaLN_modulation(c).chunk(2, 1)
        return fold(self.final_layer.linear(modulate(x, shift, scale)), self.channels)

    def forward(
        self, x: torch.Tensor, t: torch.Tensor, y: torch.Tensor | None = None
    ) -> torch.Tensor:
        return self.read(*self.features(x, t, y))


class UViTBlock(nn.Module):
    def __init__(self, width: int, heads: int, skip: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn, self.mlp = Attention(width, heads, bias=False), Mlp(width, "none")
        self.skip_linear = nn.Linear(2 * width, width) if skip else None

    def forward(self, x: torch.Tensor, skip: torch.Tensor | None = None) -> torch.Tensor:
        if self.skip_linear is not None:
            x = self.skip_linear(torch.cat([x, skip], -1))
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class TorchUViT(nn.Module):
    """U-ViT; `depth` counts the blocks beside the middle one, as the published configs do."""

    def __init__(
        self,
        side: int,
        channels: int,
        width: int,
        depth: int,
        heads: int,
        patch: int = 2,
        classes: int = 0,
        conv: bool = True,
    ) -> None:
        super().__init__()
        self.channels, self.width, self.extras = channels, width, 2 if classes else 1
        self.patch_embed = Patches(channels, width, patch)
        if classes:
            self.label_emb = nn.Embedding(classes, width)
        length = self.extras + (side // patch) ** 2
        self.pos_embed = nn.Parameter(torch.zeros(1, length, width))
        half = depth // 2
        self.in_blocks = nn.ModuleList(UViTBlock(width, heads, False) for _ in range(half))
        self.mid_block = UViTBlock(width, heads, False)
        self.out_blocks = nn.ModuleList(UViTBlock(width, heads, True) for _ in range(half))
        self.norm = nn.LayerNorm(width)
        self.decoder_pred = nn.Linear(width, patch**2 * channels)
        self.final_layer = nn.Conv2d(channels, channels, 3, padding=1) if conv else nn.Identity()

    def features(
        self, x: torch.Tensor, t: torch.Tensor, y: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        parts = [sinusoids(t, self.width)[:, None], self.patch_embed(x)]
        if y is not None:
            parts.insert(0, self.label_emb(y)[:, None])
        x = torch.cat(parts, 1) + self.pos_embed
        skips = []
        for block in self.in_blocks:
            x = block(x)
            skips.append(x)
        x = self.mid_block(x)
        for block in self.out_blocks:
            x = block(x, skips.pop())
        x = self.norm(x)
        return x[:, self.extras :], x[:, self.extras - 1]

    def read(self, x: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        return self.final_layer(fold(self.decoder_pred(x), self.channels))

    def forward(
        self, x: torch.Tensor, t: torch.Tensor, y: torch.Tensor | None = None
    ) -> torch.Tensor:
        return self.read(*self.features(x, t, y))
