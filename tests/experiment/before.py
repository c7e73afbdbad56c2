"""What a run of configs/smoke.py kept in config.json before samplers and schedules had fields."""

import json

from configs import smoke

CONFIG = json.loads(
    """{
"augmentation": {"num_squares": 1, "rate": 0.0, "square_size": 1},
"backbone": {"patch_size": 2, "width": 32, "depth": 2, "num_heads": 4, "mlp_ratio": 4,
    "frequencies": 0, "positions": "learned", "dtype": "float32", "remat": "none",
    "scan_layers": false, "kind": "dit"},
"data": {"embedder": "", "folder": "data", "path": "", "size": [0, 0], "source": "digits",
    "spectrogram": [32, 32], "test": "test", "train": "train"},
"evaluation": {"batch_size": 360, "features": "pixels", "judge_steps": 2000, "lpips": [],
    "num_samples": 200, "num_scored": 1000, "scoring_steps": 100, "seed": 0},
"formulation": "shared",
"latent": [8, 8, 1],
"loss": {"dropout": {"label": 0.1}, "kind": "simple", "scales": {"image": 0.001, "label": 0.1},
    "timesteps": "uniform", "weighting": "none"},
"modalities": {"image": {"kind": "image", "num_levels": 17},
    "label": {"kind": "label", "num_classes": 10}},
"predict": {"given": [], "target": ""},
"primary": "image",
"process": {"given": "marginal", "num_steps": 20, "schedule": "linear", "shares": {},
    "target": "v", "variance": "posterior", "weights": {"label": {"rule": "bump", "scale": 1.0}}},
"sampling": {"batch_size": 500, "corrections": 0, "decoder_guidance": {}, "estimate": "mean",
    "eta": 0.5, "grid": "karras", "guidance": {}, "guidance_interval": [], "guidance_limit": 0.0,
    "guidance_rescale": 0.0, "num_steps": null, "read": "most_likely", "read_noise": 0.0,
    "sampler": "ddim", "threshold": "auto", "unknown": "auto"},
"seed": 0,
"sharding": {"data": 0, "fsdp": 1, "min_size": 16384, "rules": [], "tensor": 1},
"training": {"accumulate": 1, "batch_size": 64, "best_metric": "", "best_mode": "min",
    "checkpoint_every": 20, "ema_decay": 0.995, "eval_every": 50, "gradient_clip": 1.0, "keep": 3,
    "keep_every": 0, "learning_rate": 0.002, "log_every": 10, "max_skipped": 10, "num_steps": 100,
    "sample_every": 50, "warmup_steps": 20, "weight_decay": 0.0001}
}"""
)


def config_today():
    """The same experiment as a config says it now."""
    config = smoke.get_config()
    config.backbone.positions = "learned"
    config.process.schedule = "linear"
    config.sampling.sampler = {"kind": "ddim", "eta": 0.5}
    config.loss.tasks = {"image, label": 1.0}
    config.loss.dropout = {"label": 0.1}
    config.loss.weighting = "none"
    return config


def in_the_old_form(settings):
    """The values of settings as they were written then: choices by their names alone."""
    values = settings.to_dict()
    for section, key in (("process", "schedule"), ("sampling", "sampler"), ("loss", "weighting")):
        values[section] = {**values[section], key: values[section][key]["kind"]}
    values["sampling"]["eta"] = settings.sampling.sampler.get("eta", 0.0)
    return values
