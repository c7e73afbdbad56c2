"""Every value of a config has its kind and its range, and errors name its path."""

import math

import numpy as np
import pytest
from ml_collections import ConfigDict

from configs.smoke import get_config
from mmdiffusion_jax import experiment

NAN, INF = math.nan, math.inf
NO_NUMBER = ("4", None, NAN, (1,))
# Of True in the place of a float ConfigDict itself makes 1.0.
NO_WHOLE = (*NO_NUMBER, True, 1.5, 4.0, INF)
# A value that is wrong for each field in turn, beside those of another kind; the last is too large.
WHOLE = {
    "seed": (-1, 2**32),
    "process.num_steps": (0, -1, 10**9),
    "augmentation.num_squares": (0, -1, 2**31),
    "augmentation.square_size": (0, -1, 9),
    "training.num_steps": (0, -5, 2**31),
    "training.batch_size": (0, -5, 2**31),
    "training.accumulate": (0, -1),
    "training.warmup_steps": (-5, 2**31),
    "training.max_skipped": (0,),
    "training.log_every": (0,),
    "training.eval_every": (-1,),
    "training.sample_every": (-1,),
    "training.checkpoint_every": (-1,),
    "training.keep": (0,),
    "training.keep_every": (-1,),
    "sharding.data": (-1,),
    "sharding.fsdp": (0,),
    "sharding.tensor": (0,),
    "sharding.min_size": (0,),
    "sampling.num_steps": (0, 21),
    "sampling.corrections": (-1,),
    "sampling.batch_size": (0,),
    "evaluation.num_samples": (1,),
    "evaluation.batch_size": (0,),
    "evaluation.num_scored": (-1,),
    "evaluation.scoring_steps": (0,),
    "evaluation.judge_steps": (0,),
    "evaluation.seed": (-1, 2**32),
    "modalities.image.num_levels": (0, 1, 257, -17),
    "modalities.label.num_classes": (0, 1, -10, 2**31),
    "backbone.patch_size": (0, -2, 3),
    "backbone.width": (0, -64),
    "backbone.depth": (-1,),
    "backbone.num_heads": (0, -4, 3),
    "backbone.mlp_ratio": (0, -1),
    "backbone.context_tokens": (-1,),
    "backbone.frequencies": (-1, 1),
}
REAL = {
    "augmentation.rate": (-0.1, 1.1),
    "process.weights.label.scale": (-1.0, INF),
    "data.held_out": (-0.1, 1.0, INF),
    "data.portions.label": (0, 1.0, -0.1, INF),
    "loss.scales.label": (-0.1, INF),
    "loss.dropout.label": (-0.1, 1.1),
    "loss.pure_noise": (-0.1, 1.1),
    "loss.self_conditioning": (-0.1, 1.1),
    "process.shares.label": (-0.1, INF),
    "training.learning_rate": (0.0, -1e-3, INF),
    "training.weight_decay": (-0.1, INF),
    "training.gradient_clip": (0.0, -1.0),
    "training.ema_decay": (-0.1, 1.0),
    "process.schedule.offset": (INF,),
    "sampling.autoguidance": (INF,),
    "sampling.guidance_rescale": (-0.1, 1.1),
    "sampling.guidance_limit": (-0.1, INF),
    "sampling.read_noise": (-0.1, INF),
    "sampling.guidance.label": (INF, -INF),
    "sampling.decoder_guidance.label": (INF,),
}
OTHERS = {
    "data.size": ((8,), (8, -1), (8.0, 8.0), ("8", "8"), 8, "8"),
    "data.spectrogram": ((0, 32), (32,), (True, True)),
    "data.folder": (3, None),
    "primary": (3, ("image",)),
    "init_from": (3, None, ("w",)),
    "training.best_metric": (1,),
    "training.best_mode": ("lowest", 1),
    "training.ema_widths": ((0.0,), (0.3,), (-0.1,), ("0.1",), (0.1, NAN), 0.1),
    "sampling.guidance_interval": ((1.0,), (2.0, 1.0), (-1.0, 1.0), (0.0, NAN), ("0", "1"), 3),
    "modalities.label.grid": ((0, 1), (9, 9), (2,), (2.0, 2.0), "44", 4),
    "modalities.image.kind": (3, "imagee"),
    "evaluation.lpips": (("vgg",), ("vgg", "a", 3), "vgg"),
    "evaluation.features": ("pixel", 3),
    "sharding.rules": ((("kernel",),), (("(", ("data",)),), (("kernel", ("dat",)),), "kernel"),
    "backbone.scan_layers": (1, "True"),
    "backbone.dtype": ("float16", 32),
    "latent": (
        (8, 8), (32,), (4, 8, 8, 1), (), (8, 0, 1), (8, -8, 1), (8, 8.0, 1), (8, "8", 1),
        (True, 8, 1), 8, "881", (2**20, 2**20, 1), (7, 7, 1), (8, 7, 1),
    ),
}  # fmt: skip


def smoke():
    config = get_config()
    return ConfigDict(config.to_dict(), type_safe=False)


def build_with(path, value):
    config = smoke()
    *sections, key = path.split(".")
    section = config
    for name in sections:
        section = section[name]
    section[key] = value
    if path.startswith("process.shares"):
        section["image"] = 1.0
    return experiment.build(config)


CASES = [
    *((path, x) for path, wrong in WHOLE.items() for x in (*wrong, *NO_WHOLE)),
    *((path, x) for path, wrong in REAL.items() for x in (*wrong, *NO_NUMBER)),
    *((path, x) for path, wrong in OTHERS.items() for x in wrong),
]
# None leaves the number of visited states to the schedule.
CASES.remove(("sampling.num_steps", None))


def test_values_of_another_kind_or_out_of_range():
    """In one test, as each case takes less than what a test of its own would."""
    wrong = []
    for path, value in CASES:
        named = f"`config.{path}`: got "
        try:
            build_with(path, value)
        except ValueError as error:
            if named not in str(error) and "config.latent" not in str(error):
                wrong.append((path, value, str(error)))
        except Exception as error:
            wrong.append((path, value, repr(error)))
        else:
            wrong.append((path, value, "nothing"))
    assert not wrong


def test_every_number_of_the_default_config_is_tried():
    def leaves(section, path=""):
        for key, value in section.items():
            if isinstance(value, dict):
                yield from leaves(value, f"{path}{key}.")
            elif isinstance(value, int | float) and not isinstance(value, bool):
                yield f"{path}{key}"

    assert set(leaves(experiment.default_config().to_dict())) <= {*WHOLE, *REAL}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("training.gradient_clip", INF),
        ("training.warmup_steps", 0),
        ("training.weight_decay", 0),
        ("training.learning_rate", np.float32(1e-3)),
        ("training.batch_size", np.int64(64)),
        ("sampling.guidance.label", -1.0),
        ("sampling.guidance_interval", (0.3, INF)),
        ("sampling.guidance_interval", [0.3, 5]),
        ("modalities.image.num_levels", 2),
        ("process.weights.label.scale", 0),
        ("latent", [8, 8, 1]),
        ("latent", (8, 4, 2)),
    ],
)
def test_values_at_the_ends_of_their_ranges(path, value):
    build_with(path, value)


@pytest.mark.parametrize(
    ("backbone", "words"),
    [
        ({"kind": "unet", "width": 32, "patch_size": 3}, r"backbone\.patch_size.* of config\.lat"),
        ({"kind": "uvit", "patch_size": 3}, r"backbone\.patch_size.* \(8, 8\) of config\.latent"),
        ({"kind": "unet", "channel_mults": (1,) * 5}, r"channel_mults.*\(8, 8\) .* of config\.lat"),
        ({"kind": "unet", "channel_mults": ()}, r"config\.backbone\.channel_mults`: got \(\)"),
        ({"kind": "unet", "channel_mults": (1, 0)}, r"config\.backbone\.channel_mults`: got 0"),
        ({"kind": "unet", "channel_mults": (1, NAN)}, r"config\.backbone\.channel_mults`: got nan"),
        ({"kind": "unet", "attention_resolutions": ("8",)}, r"attention_resolutions`: got '8'"),
        ({"kind": "unet", "num_groups": 0}, r"config\.backbone\.num_groups`: got 0"),
        ({"kind": "unet", "num_head_channels": 0}, r"config\.backbone\.num_head_channels`: got 0"),
        ({"kind": "unet", "num_res_blocks": 0}, r"config\.backbone\.num_res_blocks`: got 0"),
        ({"kind": "uvit", "depth": 0}, r"config\.backbone\.depth`: got 0"),
        ({"kind": "uvit", "time_scale": -1.0}, r"config\.backbone\.time_scale`: got -1\.0"),
        ({"kind": "uvit", "time_scale": INF}, r"config\.backbone\.time_scale`: got inf"),
        ({"kind": "uvit", "final_conv": "yes"}, r"config\.backbone\.final_conv`: got 'yes'"),
    ],
)
def test_fields_of_other_backbones(backbone, words):
    config = smoke()
    config.backbone = ConfigDict(backbone)
    with pytest.raises(ValueError, match=words):
        experiment.build(config)


@pytest.mark.parametrize(
    "spec",
    [
        {"kind": "tokens", "length": 0},
        {"kind": "tokens", "length": 33},
        {"kind": "tokens", "padding": 1.5},
        {"kind": "segmentation", "void": 0},
        {"kind": "segmentation", "num_classes": 1},
        {"kind": "segmentation", "palette": "tabb"},
        {"kind": "embedding", "dims": 0},
        {"kind": "embedding", "dims": 2.0},
        {"kind": "embedding", "head_kind": "cosinus"},
        {"kind": "audio", "frames": 0},
        {"kind": "audio", "mels": "32"},
        {"kind": "latent_image", "shift": NAN},
        {"kind": "latent_image", "shift": "0"},
        {"kind": "latent_image", "scale": INF},
        {"kind": "masked_image", "num_squares": 0},
        {"kind": "masked_image", "square_size": 9},
        {"kind": "masked_image", "source": 3},
    ],
    ids=str,
)
def test_fields_of_other_modalities(spec):
    config = smoke()
    config.modalities.other = ConfigDict(spec)
    config.process.weights.other = ConfigDict({"rule": "bump", "scale": 1.0})
    field = list(spec)[-1]
    with pytest.raises(ValueError, match=rf"`config\.modalities\.other\.{field}`: got "):
        experiment.build(config)
