"""The train step of the digits against the same network, loss and optimiser in PyTorch."""

import copy
import statistics
import time
from collections.abc import Callable

import jax
import numpy as np
import torch
from ml_collections import ConfigDict
from torch import nn

from mmdiffusion_jax import experiment, run, training

ROUNDS = 5


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = nn.Linear(width, 6 * width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width)
        )

    def forward(self, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        a, b, c, d, e, f = self.modulation(nn.functional.silu(condition))[:, None].chunk(6, -1)
        batch, length, width = x.shape
        query, key, value = self.qkv(self.norm(x) * (1 + b) + a).chunk(3, -1)
        query, key, value = (
            y.view(batch, length, self.heads, -1).transpose(1, 2) for y in (query, key, value)
        )
        mixed = nn.functional.scaled_dot_product_attention(query, key, value)
        x = x + c * self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        return x + f * self.mlp(self.norm(x) * (1 + e) + d)


class Network(nn.Module):
    """The DiT with its label table and both heads, at the sizes of the config."""

    def __init__(self, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(10, 64))
        self.patches, self.position = nn.Linear(4, width), nn.Parameter(torch.zeros(16, width))
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.carried = nn.Linear(1, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.last, self.noise = nn.Linear(width, 2 * width), nn.Linear(width, 4)
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.label = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 10))
        self.spread = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 4))
        self.pairs = width // 2

    def encode(self, labels: torch.Tensor) -> torch.Tensor:
        rows = self.table / self.table.square().mean(1, keepdim=True).sqrt()
        return rows[labels]

    def forward(
        self, z: torch.Tensor, t: torch.Tensor, carried: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        angles = 10 * t[:, None] * torch.exp(-9.21 * torch.arange(self.pairs) / self.pairs)
        condition = self.time(torch.cat([angles.cos(), angles.sin()], -1)) + self.carried(carried)
        x = z.view(-1, 4, 2, 4, 2).transpose(2, 3).reshape(-1, 16, 4)
        x = self.patches(x) + self.position
        for block in self.blocks:
            x = block(x, condition)
        shift, scale = self.last(nn.functional.silu(condition))[:, None].chunk(2, -1)
        noise = self.noise(self.norm(x) * (1 + scale) + shift)
        noise = noise.view(-1, 4, 4, 2, 2).transpose(2, 3).reshape(-1, 64)
        return noise, self.label(x.mean(1) + condition), self.spread(x + condition[:, None])


def torch_steps(built: experiment.Experiment) -> Callable[[int, np.ndarray, np.ndarray], None]:
    """A function that takes so many steps in PyTorch, every part of ours included."""
    net = built.model.backbone
    model = Network(net.width, net.depth, net.num_heads)
    average = copy.deepcopy(model)
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-4)
    bar = torch.tensor(np.asarray(built.schedule.alpha_bar))
    drift = torch.tensor(np.asarray(built.weights.marginal["label"]))

    def take(count: int, images: np.ndarray, classes: np.ndarray) -> None:
        pixels, labels = torch.tensor(images).view(-1, 64), torch.tensor(classes).long()
        for _ in range(count):
            t = torch.randint(1, len(bar), (len(pixels),))
            carried = (torch.rand(len(pixels), 1) > 0.1).float()
            noise = torch.randn_like(pixels)
            state = bar[t, None].sqrt() * pixels + (1 - bar[t, None]).sqrt() * noise
            state = state + drift[t, None] * carried * model.encode(labels)
            guess, logits, spread = model(state, t.float(), 1 - carried)
            loss = (guess - noise).square().mean()
            loss = loss + 0.1 * nn.functional.cross_entropy(logits, labels)
            loss = loss + 1e-3 * spread.square().mean()
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            with torch.no_grad():
                torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 0.005)

    return take


def compare(config: ConfigDict, steps: int) -> None:
    """Prints the median time of a step of each and their ratio, measured in turns."""
    built = experiment.build(config)
    mesh = training.make_mesh()
    step, state = run.make_step_and_state(built, mesh)
    source, _ = experiment.open_data(config)
    batch = source.take(np.arange(built.training.batch_size))
    on_device = jax.device_put(batch)
    rival = torch_steps(built)
    images, labels = batch["image"].astype(np.float32) / 127.5 - 1, batch["label"]
    state, _ = step(state, on_device)
    rival(2, images, labels)
    ours, theirs = [], []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        for _ in range(steps):
            state, _ = step(state, on_device)
        jax.block_until_ready(state)
        ours.append((time.perf_counter() - begun) / steps)
        begun = time.perf_counter()
        rival(steps, images, labels)
        theirs.append((time.perf_counter() - begun) / steps)
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    print(f"this library    {1e3 * statistics.median(ours):.2f} ms a step")
    print(f"PyTorch, eager  {1e3 * statistics.median(theirs):.2f} ms a step")
    print(
        f"ratio           {statistics.median(ratios):.2f} "
        f"({min(ratios):.2f} to {max(ratios):.2f} over {ROUNDS} rounds)"
    )
