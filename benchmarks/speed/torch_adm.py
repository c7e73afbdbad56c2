"""The published U-Net of ADM in PyTorch, by the names of its checkpoints; an oracle for ours."""

import torch
from torch import nn
from torch.nn import functional

from benchmarks.speed.torch_transformers import sinusoids


class ResBlock(nn.Module):
    def __init__(self, inner: int, out: int, time: int, groups: int, resample: str = "") -> None:
        super().__init__()
        self.resample = resample
        self.in_layers = nn.Sequential(
            nn.GroupNorm(groups, inner), nn.SiLU(), nn.Conv2d(inner, out, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(time, 2 * out))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(groups, out), nn.SiLU(), nn.Identity(), nn.Conv2d(out, out, 3, padding=1)
        )
        self.skip_connection = nn.Identity() if inner == out else nn.Conv2d(inner, out, 1)

    def sized(self, x: torch.Tensor) -> torch.Tensor:
        if self.resample == "down":
            return functional.avg_pool2d(x, 2)
        if self.resample == "up":
            return functional.interpolate(x, scale_factor=2, mode="nearest")
        return x

    def forward(self, x: torch.Tensor, emb: torch.Tensor) -> torch.Tensor:
        norm, activation, conv = self.in_layers
        h = conv(self.sized(activation(norm(x))))
        scale, shift = self.emb_layers(emb)[..., None, None].chunk(2, 1)
        h = self.out_layers[1:](self.out_layers[0](h) * (1 + scale) + shift)
        return self.skip_connection(self.sized(x)) + h


class AttentionBlock(nn.Module):
    def __init__(self, channels: int, head: int, groups: int, new_order: bool) -> None:
        super().__init__()
        self.head, self.new_order = head, new_order
        self.norm = nn.GroupNorm(groups, channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, channels, height, width = x.shape
        qkv = self.qkv(self.norm(x).flatten(2))
        heads = channels // self.head
        if self.new_order:
            qkv = qkv.view(batch, 3, heads, self.head, -1).transpose(0, 1)
        else:
            qkv = qkv.view(batch, heads, 3, self.head, -1).permute(2, 0, 1, 3, 4)
        mixed = functional.scaled_dot_product_attention(*qkv.transpose(-1, -2))
        out = mixed.transpose(-1, -2).reshape(batch, channels, height * width)
        return x + self.proj_out(out).view(x.shape)


class TorchADM(nn.Module):
    """ADM with residual blocks that resample, and norms that t scales and shifts."""

    def __init__(
        self,
        side: int,
        channels: int,
        out: int,
        width: int,
        mults: tuple[float, ...],
        blocks: int,
        resolutions: tuple[int, ...],
        head: int,
        groups: int = 32,
        classes: int = 0,
        new_order: bool = True,
    ) -> None:
        super().__init__()
        self.width, time = width, 4 * width
        self.time_embed = nn.Sequential(nn.Linear(width, time), nn.SiLU(), nn.Linear(time, time))
        if classes:
            self.label_emb = nn.Embedding(classes, time)

        def residual(inner: int, outer: int, resample: str = "") -> ResBlock:
            return ResBlock(inner, outer, time, groups, resample)

        def attention(count: int) -> AttentionBlock:
            return AttentionBlock(count, head, groups, new_order)

        levels = [int(mult * width) for mult in mults]
        now = levels[0]
        stages = [nn.ModuleList([nn.Conv2d(channels, now, 3, padding=1)])]
        kept = [now]
        for level, count in enumerate(levels):
            for _ in range(blocks):
                stages.append(nn.ModuleList([residual(now, count)]))
                now = count
                if side >> level in resolutions:
                    stages[-1].append(attention(now))
                kept.append(now)
            if level < len(levels) - 1:
                stages.append(nn.ModuleList([residual(now, now, "down")]))
                kept.append(now)
        self.input_blocks = nn.ModuleList(stages)
        self.middle_block = nn.ModuleList([residual(now, now), attention(now), residual(now, now)])
        stages = []
        for level, count in reversed(list(enumerate(levels))):
            for index in range(blocks + 1):
                stages.append(nn.ModuleList([residual(now + kept.pop(), count)]))
                now = count
                if side >> level in resolutions:
                    stages[-1].append(attention(now))
                if level and index == blocks:
                    stages[-1].append(residual(now, now, "up"))
        self.output_blocks = nn.ModuleList(stages)
        self.out = nn.Sequential(
            nn.GroupNorm(groups, now), nn.SiLU(), nn.Conv2d(now, out, 3, padding=1)
        )

    def features(
        self, x: torch.Tensor, t: torch.Tensor, y: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        emb = self.time_embed(sinusoids(t, self.width))
        if y is not None:
            emb = emb + self.label_emb(y)

        def run(stage: nn.ModuleList, x: torch.Tensor) -> torch.Tensor:
            for layer in stage:
                x = layer(x, emb) if isinstance(layer, ResBlock) else layer(x)
            return x

        kept = []
        for stage in self.input_blocks:
            x = run(stage, x)
            kept.append(x)
        x = run(self.middle_block, x)
        for stage in self.output_blocks:
            x = run(stage, torch.cat([x, kept.pop()], 1))
        return x, functional.silu(emb)

    def read(self, x: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        return self.out(x)

    def forward(
        self, x: torch.Tensor, t: torch.Tensor, y: torch.Tensor | None = None
    ) -> torch.Tensor:
        return self.read(*self.features(x, t, y))
