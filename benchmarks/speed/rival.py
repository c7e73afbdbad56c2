"""The other side: the same networks, loss, optimiser, average and sampler in PyTorch."""

import copy
import itertools
import math
import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks.speed import sizes
from benchmarks.speed.worker import Arms, Unavailable

try:
    import torch
except ImportError as reason:
    raise Unavailable("PyTorch is not installed") from reason

from torch import nn
from torch.nn import functional

from benchmarks.speed.torch_adm import TorchADM
from benchmarks.speed.torch_transformers import TorchDiT, TorchUViT, fold

Predict = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Head(nn.Module):
    """log σ of each pixel from the features of its patch, as our primary modality has it."""

    def __init__(self, features: int, condition: int, channels: int, patch: int) -> None:
        super().__init__()
        self.condition = nn.Linear(condition, features) if condition else nn.Identity()
        self.modulation = nn.Linear(features, 2 * features)
        self.norm = nn.LayerNorm(features, eps=1e-6)
        self.out = nn.Linear(features, patch**2 * channels)
        self.channels = channels

    def forward(self, tokens: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """log σ of each pixel, (batch, channels, height, width)."""
        modulation = self.modulation(functional.silu(self.condition(condition)))
        scale, shift = modulation[:, None].chunk(2, -1)
        out = self.out(torch.addcmul(shift, self.norm(tokens), 1 + scale))
        return (fold(out, self.channels) - 2).clamp(-7, 2)


class Model(nn.Module):
    """The network with the head: (z_t, t) → (noise, log σ)."""

    def __init__(self, size: Mapping[str, Any]) -> None:
        super().__init__()
        height, _, channels = size["latent"]
        width = size["width"]
        self.net: TorchDiT | TorchUViT | TorchADM
        if size["kind"] == "dit":
            depth, heads = size["depth"], size["num_heads"]
            self.net = TorchDiT(height, channels, width, depth, heads, classes=0, out=channels)
            # Neither is learned here: the positions are fixed, and there is no class.
            self.net.pos_embed.requires_grad_(False)
            self.net.y_embedder.requires_grad_(False)
            self.head = Head(width, 0, channels, 2)
        elif size["kind"] == "uvit":
            self.net = TorchUViT(height, channels, width, size["depth"], size["num_heads"])
            self.head = Head(width, 0, channels, 2)
        else:
            self.net = TorchADM(
                height,
                channels,
                channels,
                width,
                tuple(size["channel_mults"]),
                size["num_res_blocks"],
                tuple(size["attention_resolutions"]),
                size["num_head_channels"],
                size.get("num_groups", 32),
            )
            features = int(size["channel_mults"][0] * width)
            self.head = Head(features, 4 * width, channels, 1)

    def forward(self, z: torch.Tensor, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The predicted noise, (batch, channels, height, width), and log σ of each pixel."""
        features, condition = self.net.features(z, t)
        tokens = features if features.ndim == 3 else features.flatten(2).transpose(1, 2)
        return self.net.read(features, condition), self.head(tokens, condition)


class Training:
    """AdamW behind a clip, warm-up and cosine, and the moving average, fused where PyTorch can."""

    def __init__(self, model: Model, device: str = "cpu", half: bool = False) -> None:
        self.model, self.average = model, copy.deepcopy(model)
        parameters = [p for p in model.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": sizes.WEIGHT_DECAY},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self.optimiser = torch.optim.AdamW(groups, fused=True)
        self.alpha_bar = torch.tensor(alpha_bar(), dtype=torch.float32, device=device)
        self.device, self.half, self.count = device, half, 0
        self.pairs = [p for p in self.average.parameters() if p.requires_grad], parameters

    def predict(self, z: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """The noise alone."""
        with torch.autocast(self.device, torch.bfloat16, enabled=self.half):
            return self.model.net.read(*self.model.net.features(z, t)).float()

    def loss(self, x: torch.Tensor, t: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """The mean over a batch of the noise's squared error and the image's likelihood term."""
        kept = self.alpha_bar[t].view(-1, 1, 1, 1)
        root, sigma = kept.sqrt(), (1 - kept).sqrt()
        z = root * x + sigma * noise
        with torch.autocast(self.device, torch.bfloat16, enabled=self.half):
            guess, log_std = self.model(z, t)
        guess, log_std = guess.float(), log_std.float()
        estimate = ((z - sigma * guess) / root).detach()
        nats = 0.5 * ((x - estimate) * (-log_std).exp()).square() + log_std
        likelihood = nats.mean() + 0.5 * math.log(2 * math.pi)
        return (noise - guess).square().mean() + sizes.IMAGE_SCALE * likelihood

    def step(self, x: torch.Tensor, t: torch.Tensor, noise: torch.Tensor) -> None:
        """Takes one step: gradient, clip, AdamW and the average of the weights."""
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.count)
        self.optimiser.zero_grad()
        self.loss(x, t, noise).backward()
        nn.utils.clip_grad_norm_(self.pairs[1], sizes.GRADIENT_CLIP)
        self.optimiser.step()
        decay = min(sizes.EMA_DECAY, (1 + self.count) / (10 + self.count))
        with torch.no_grad():
            torch._foreach_lerp_(*self.pairs, 1 - decay)
        self.count += 1


def learning_rate(count: int) -> float:
    """Linear warm-up, then a cosine to zero."""
    if count < sizes.WARMUP_STEPS:
        return sizes.LEARNING_RATE * count / sizes.WARMUP_STEPS
    share = (count - sizes.WARMUP_STEPS) / (sizes.TRAINING_STEPS - sizes.WARMUP_STEPS)
    return sizes.LEARNING_RATE * 0.5 * (1 + math.cos(math.pi * min(share, 1)))


def alpha_bar() -> np.ndarray:
    """ᾱ_t of the linear schedule, t = 0 … T."""
    betas = np.linspace(1e-4, 0.02, sizes.NUM_STEPS)
    return np.concatenate([[1.0], np.cumprod(1 - betas)])


def walk(predict: Predict, z: torch.Tensor) -> torch.Tensor:
    """`SAMPLER_STEPS` steps of DDIM without noise, evenly spaced from t = T to t = 1."""
    kept = alpha_bar()
    times = np.linspace(sizes.NUM_STEPS, 1, sizes.SAMPLER_STEPS + 1).round().astype(int).tolist()
    for here, there in itertools.pairwise(times):
        guess = predict(z, torch.full((len(z),), here, device=z.device))
        clean = (z - math.sqrt(1 - kept[here]) * guess) / math.sqrt(kept[here])
        z = math.sqrt(kept[there]) * clean + math.sqrt(1 - kept[there]) * guess
    return z


def arms(size: Mapping[str, Any], compiled: bool = False, device: str = "cpu") -> Arms:
    """Forward of a batch, a walk of `SAMPLER_STEPS` DDIM steps, and the train step.

    Args:
        size: of the network; with a dtype "bfloat16" products are in it by autocast.
        compiled: whether the network and the loss are compiled.
        device: "cpu" or "cuda".
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise Unavailable("PyTorch sees no GPU")
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.set_float32_matmul_precision("high" if device == "cuda" else "highest")
    torch.manual_seed(0)
    height, width, channels = size["latent"]
    # Faster than channels first, for convolutions on CPU and GPU.
    layout = torch.channels_last
    model = Model(size).to(device, memory_format=layout)
    training = Training(model, device, half=size.get("dtype") == "bfloat16")
    predict: Predict = training.predict
    if compiled:
        training.loss = torch.compile(training.loss)  # type: ignore[method-assign]
        predict = torch.compile(predict)
    x = torch.randn(size["batch"], channels, height, width, device=device)
    x = x.to(memory_format=layout)
    t = torch.full((len(x),), sizes.NUM_STEPS // 2, device=device)

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    @torch.inference_mode()
    def take_forward(count: int) -> None:
        for _ in range(count):
            predict(x, t)
            wait()

    @torch.inference_mode()
    def take_walk(count: int) -> None:
        for _ in range(count):
            walk(predict, x)
            wait()

    def take_steps(count: int) -> None:
        for _ in range(count):
            drawn = torch.randint(1, sizes.NUM_STEPS + 1, (len(x),), device=device)
            training.step(x, drawn, torch.randn_like(x))
        wait()

    def peak(_: int) -> int:
        return torch.cuda.max_memory_allocated() if device == "cuda" else 0

    return {"forward": take_forward, "sampler": take_walk, "train": take_steps, "peak": peak}
