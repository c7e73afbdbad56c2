"""The config file of a prepared folder of pictures, which stands by itself."""

import shlex
from collections.abc import Iterator
from typing import Any

from mmdiffusion_jax.data.folder import FolderOptions, Prepared, shown

CONFIG_FILE = "config.py"
"""In the folder of a prepared data set: the config that trains on it."""

# The network sees maps of patches with at most so many rows and columns.
_LARGEST_MAP = 32
_HALVINGS = 2
# The letters of a section that is written in one line.
_LONGEST_LINE = 60

_HEAD = '''"""{what}: {height} × {width}, {train} to train on and {test} to test on.

Written by launch/prepare.py for a run of minutes on a few cores; change what you like. More width,
such as --config.backbone.width=64, and more steps make better pictures where there is time.

    python launch/train.py --config={place} --workdir=W
    python launch/sample.py --workdir=W
    python launch/evaluate.py --workdir=W
"""

from pathlib import Path

from ml_collections import ConfigDict

from mmdiffusion_jax import experiment


def get_config() -> ConfigDict:
    config = experiment.default_config()
'''


def config_text(options: FolderOptions, prepared: Prepared) -> str:
    """A config file: a small U-Net for the pictures with the masks and labels that they have.

    Its values are those of the shipped small configs: the network of `unet_fields`, 100 steps of a
    cosine schedule, and a weight for each modality.

    Example:
        >>> import pathlib
        >>> prepared = Prepared(
        ...     pathlib.Path("data"), ("image",), {"train": 90, "test": 10}
        ... )
        >>> text = config_text(FolderOptions("photos", (64, 64)), prepared)
        >>> "config.latent = (64, 64, 3)" in text
        True
    """
    others: list[str] = [name for name in ("label", "mask") if name in prepared.columns]
    height, width = options.size
    what = {
        (): "Pictures",
        ("label",): "Pictures and labels",
        ("mask",): "Pictures and masks",
        ("label", "mask"): "Pictures, masks and labels",
    }[tuple(others)]
    place = shlex.quote(shown(str(prepared.folder / CONFIG_FILE)))
    # It stands in a docstring.
    place = place.replace("\\", r"\\").replace('"', r"\"")
    head = _HEAD.format(what=what, height=height, width=width, place=place, **prepared.counts)
    lines = [f"    {line}" for line in _lines(options, prepared, others)]
    return "\n".join([head.rstrip("\n"), *lines, "    return config", ""])


def _lines(options: FolderOptions, prepared: Prepared, others: list[str]) -> Iterator[str]:
    yield 'config.data.source = "tfds"'
    yield "config.data.folder = str(Path(__file__).resolve().parent)"
    yield f"config.latent = {(*options.size, 1 if options.grey else 3)}"
    yield from _modalities(options, prepared, others)
    yield from _assigned("config.backbone", unet_fields(options.size, "label" in others))
    yield "config.process.num_steps = 100"
    yield 'config.process.target = "v"'
    if others:
        weight = {"rule": "bump", "scale": 0.5}
        yield from _assigned("config.process.weights", dict.fromkeys(others, weight))
        scales = {"image": 0.001, **{name: {"label": 0.03, "mask": 0.3}[name] for name in others}}
        yield from _assigned("config.loss.scales", scales)
        yield from _assigned("config.loss.dropout", dict.fromkeys(others, 0.2))
    if others == ["mask"]:
        tasks = {"image, mask": 0.1, "image | mask": 0.4, "mask | image": 0.5}
        yield from _assigned("config.loss.tasks", tasks)
    yield "config.training.num_steps = 5000"
    yield 'config.training.optimiser = "muon"'
    large = max(options.size) > _LARGEST_MAP // 2
    yield f"config.training.batch_size = {min(16 if large else 32, prepared.counts['train'])}"
    yield "config.training.warmup_steps = 100"
    yield "config.training.log_every = 50"
    yield "config.training.eval_every = 0"
    yield "config.training.sample_every = 1000"
    yield "config.training.checkpoint_every = 500"
    yield 'config.sampling.sampler = "dpm_solver_pp_2m_sde"'
    yield "config.sampling.num_steps = 20"
    yield f"config.evaluation.num_samples = {max(2, min(1000, prepared.counts['test']))}"
    yield "config.evaluation.num_scored = 0"
    if "label" in others:
        yield 'config.evaluation.features = "classifier"'


def _modalities(options: FolderOptions, prepared: Prepared, others: list[str]) -> Iterator[str]:
    fields: dict[str, dict[str, Any]] = {"image": {"kind": "image"}}
    if "mask" in others:
        classes = max(2, prepared.num_mask_classes)
        fields["mask"] = {"kind": "segmentation", "num_classes": classes, "void": 255}
    if "label" in others:
        names = prepared.class_names
        grid = tuple(min(side, 4) for side in options.size)
        fields["label"] = {"kind": "label", "num_classes": len(names), "grid": grid}
        fields["label"]["class_names"] = names
    yield from _assigned("config.modalities", fields)


def _assigned(path: str, fields: dict[str, Any]) -> Iterator[str]:
    yield from f"{path} = ConfigDict({_written(fields)})".splitlines()


def _written(value: Any) -> str:
    """A value as Python, with an entry a line where all do not fit into one line."""
    if isinstance(value, str):
        text = repr(value)
        return text if '"' in text or "\\" in text else f'"{text[1:-1]}"'
    if not isinstance(value, dict | tuple):
        return repr(value)
    if isinstance(value, dict):
        entries = [f"{_written(name)}: {_written(inner)}" for name, inner in value.items()]
    else:
        entries = [_written(inner) for inner in value]
    first, last = "{}" if isinstance(value, dict) else "()"
    line = ", ".join(entries)
    if len(line) <= _LONGEST_LINE and "\n" not in line:
        return f"{first}{line}{',' if first == '(' and len(entries) == 1 else ''}{last}"
    inner = "\n".join(f"    {line}" for entry in entries for line in f"{entry},".splitlines())
    return f"{first}\n{inner}\n{last}"


def unet_fields(size: tuple[int, int], has_label: bool) -> dict[str, Any]:
    """The fields of a small U-Net for pictures of a size (height, width).

    Its patches are as small as leave maps of at most 32 × 32, and divide the sides; its maps are
    halved twice, or as often as their sides are even and stay at 4 and more. The lowest has
    attention.

    Example:
        >>> fields = unet_fields((64, 64), has_label=True)
        >>> fields["patch_size"], fields["channel_mults"], fields["attention_resolutions"]
        (2, (1, 1, 1), (8,))
        >>> fields = unet_fields((100, 75), has_label=False)
        >>> fields["patch_size"], fields["channel_mults"], fields["attention_resolutions"]
        (1, (1,), (100,))
    """
    patch = 1
    while max(size) > patch * _LARGEST_MAP and not any(side % (2 * patch) for side in size):
        patch *= 2
    rows, columns = (side // patch for side in size)
    halvings = 0
    while halvings < _HALVINGS and not rows % 2 and not columns % 2 and min(rows, columns) >= 8:
        rows, columns, halvings = rows // 2, columns // 2, halvings + 1
    return {
        "kind": "unet",
        "patch_size": patch,
        "width": 32,
        "channel_mults": (1,) * (halvings + 1),
        "num_res_blocks": 1,
        "attention_resolutions": (rows,),
        "num_head_channels": 32,
        "num_groups": 8,
        "bottleneck_features": has_label,
        "skip_filters": 4,
    }
