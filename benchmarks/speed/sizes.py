"""The networks that both sides build, in words that JSON can carry."""

from typing import Any

DIT: dict[str, Any] = {
    "kind": "dit",
    "latent": (16, 16, 4),
    "batch": 16,
    "width": 256,
    "depth": 6,
    "num_heads": 4,
}
"""A small DiT with patches of 2: 64 tokens an example."""

ADM: dict[str, Any] = {
    "kind": "unet",
    "latent": (32, 32, 3),
    "batch": 8,
    "width": 64,
    "channel_mults": (1, 2, 2),
    "num_res_blocks": 2,
    "attention_resolutions": (16, 8),
    "num_head_channels": 32,
}
"""A modest U-Net of ADM, for images of 32 × 32."""

DEEP_DIT: dict[str, Any] = {**DIT, "depth": 12}
"""Deep enough for what is kept of the layers to be most of the memory."""

_GPU = {"kind": "dit", "latent": (32, 32, 4), "batch": 32, "dtype": "bfloat16", "num_heads": 16}
GPU_DITS: dict[str, dict[str, Any]] = {
    "dit_l_2": {**_GPU, "width": 1024, "depth": 24},
    "dit_xl_2": {**_GPU, "width": 1152, "depth": 28},
}
"""The published DiT-L/2 and DiT-XL/2 of ImageNet 256 × 256."""

NUM_STEPS = 1000
SAMPLER_STEPS = 10
LEARNING_RATE = 1e-4
WARMUP_STEPS = 100
TRAINING_STEPS = 100_000
WEIGHT_DECAY = 1e-4
GRADIENT_CLIP = 1.0
EMA_DECAY = 0.999
IMAGE_SCALE = 1e-3
