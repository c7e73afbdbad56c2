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

_GPU = {"latent": (32, 32, 4), "batch": 64, "dtype": "bfloat16", "num_heads": 16}
GPU: dict[str, dict[str, Any]] = {
    "DiT-L/2": {"kind": "dit", **_GPU, "width": 1024, "depth": 24},
    "DiT-XL/2": {"kind": "dit", **_GPU, "width": 1152, "depth": 28},
    "U-ViT-L/2": {"kind": "uvit", **_GPU, "width": 1024, "depth": 21},
    "ADM-64": {
        "kind": "unet",
        "latent": (64, 64, 3),
        "batch": 32,
        "dtype": "bfloat16",
        "width": 192,
        "channel_mults": (1, 2, 3, 4),
        "num_res_blocks": 3,
        "attention_resolutions": (32, 16, 8),
        "num_head_channels": 64,
    },
}
"""The published networks of ImageNet, on latents of 256 × 256 and on pixels of 64 × 64."""

_TOY = {"latent": (8, 8, 4), "batch": 4, "dtype": "bfloat16", "num_heads": 2, "width": 16}
TOY: dict[str, dict[str, Any]] = {
    "DiT-L/2": {"kind": "dit", **_TOY, "depth": 2},
    "DiT-XL/2": {"kind": "dit", **_TOY, "depth": 3},
    "U-ViT-L/2": {"kind": "uvit", **_TOY, "depth": 3},
    "ADM-64": {
        "kind": "unet",
        "latent": (8, 8, 3),
        "batch": 4,
        "dtype": "bfloat16",
        "width": 8,
        "channel_mults": (1, 2),
        "num_res_blocks": 1,
        "attention_resolutions": (4,),
        "num_head_channels": 4,
        "num_groups": 4,
    },
}
"""What stands for them where the order of a session on a GPU is tried without one."""

NUM_STEPS = 1000
SAMPLER_STEPS = 10
LEARNING_RATE = 1e-4
WARMUP_STEPS = 100
TRAINING_STEPS = 100_000
WEIGHT_DECAY = 1e-4
GRADIENT_CLIP = 1.0
EMA_DECAY = 0.999
IMAGE_SCALE = 1e-3
