"""The config: every key there is, and the judge of keys and names."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import flax.linen as nn
from ml_collections import ConfigDict, config_dict

from mmdiffusion_jax import data, errors, process
from mmdiffusion_jax.experiment.config_file import read_config_file
from mmdiffusion_jax.experiment.formulations import FORMULATIONS, WEIGHTINGS
from mmdiffusion_jax.experiment.sections import EvaluationOptions, SamplingOptions
from mmdiffusion_jax.experiment.values import check_kinds, check_numbers
from mmdiffusion_jax.modalities import MODALITIES
from mmdiffusion_jax.networks import DiT, UNet, UViT
from mmdiffusion_jax.training import ShardingOptions, TrainingOptions

SCHEDULES: Mapping[str, Callable[[int], process.Schedule]] = {
    "linear": process.linear_schedule,
    "cosine": process.cosine_schedule,
    "sigmoid": process.sigmoid_schedule,
}
BACKBONES: Mapping[str, type[nn.Module]] = {"dit": DiT, "unet": UNet, "uvit": UViT}
SOURCES = ("digits", "tfds", "npz", *data.SMALL_SETS)
LOSSES = ("simple", "bound")


def default_config() -> ConfigDict:
    """Every key there is, with its default; a config file starts here and changes some.

    Three sections are named by the modalities and so have no keys of their own here:
    `modalities`, `process.weights` and `loss.scales` / `loss.dropout`. The section `backbone` has
    the fields of its kind. For another kind it is written anew; what it leaves out has its default:
    `config.backbone = ConfigDict({"kind": "unet", "width": 128})`.

    Example:
        >>> default_config().process.schedule
        'cosine'
    """
    config = {
        "seed": 0,
        "data": {
            "source": "digits",
            "folder": "data",
            "train": "train",
            "test": "test",
            "path": "",
            "size": (0, 0),
            "spectrogram": (32, 32),
            "embedder": "",
        },
        "latent": (8, 8, 1),
        "modalities": {},
        "primary": "image",
        "formulation": "shared",
        "predict": {"given": (), "target": ""},
        "augmentation": {"rate": 0.0, "num_squares": 1, "square_size": 1},
        "process": {
            "num_steps": 100,
            "schedule": "cosine",
            "weights": {},
            "given": "marginal",
            "target": "noise",
            "variance": "posterior",
            "shares": {},
        },
        "backbone": {"kind": "dit", **_field_defaults(DiT)},
        "loss": {
            "kind": "simple",
            "scales": {},
            "dropout": {},
            "weighting": "none",
            "timesteps": "uniform",
        },
        "training": dataclasses.asdict(TrainingOptions()),
        "sharding": dataclasses.asdict(ShardingOptions()),
        "sampling": {
            **dataclasses.asdict(SamplingOptions()),
            "num_steps": config_dict.placeholder(int),
        },
        "evaluation": dataclasses.asdict(EvaluationOptions()),
    }
    return ConfigDict(config)


def check_config(config: ConfigDict) -> None:
    """Checks every key, every name and every number in a config.

    Raises:
        ValueError: naming the key by its path, what it got and what was expected.
    """
    known = default_config().to_dict()
    values = with_backbone_defaults(config.to_dict())
    if isinstance(values.get("backbone"), Mapping):
        known["backbone"] = _check_backbone(values["backbone"])
    _check_keys(values, known, "config")
    check_kinds(values, known, "config")
    if not config.modalities:
        raise ValueError(
            errors.message("config.modalities", "none", "at least one modality", "name them")
        )
    for name, spec in config.modalities.items():
        _check_name(f"config.modalities.{name}.kind", spec.get("kind", ""), MODALITIES)
        known = {"kind": "", **_field_defaults(MODALITIES[spec.kind])}
        _check_keys(spec.to_dict(), known, f"config.modalities.{name}")
        check_kinds(spec.to_dict(), known, f"config.modalities.{name}")
        if name.removesuffix("_present") in {*config.modalities} - {name}:
            raise ValueError(
                errors.message(
                    f"config.modalities.{name}",
                    f"a name that stands for the mask of {name.removesuffix('_present')!r}",
                    "a name that no mask has",
                    "rename the modality and its column",
                )
            )
    present = set(config.modalities)
    _check_name("config.primary", config.primary, present)
    for path, section in (
        ("config.process.weights", config.process.weights),
        ("config.process.shares", config.process.shares),
        ("config.loss.scales", config.loss.scales),
        ("config.loss.dropout", config.loss.dropout),
        ("config.sampling.guidance", config.sampling.guidance),
        ("config.sampling.decoder_guidance", config.sampling.decoder_guidance),
    ):
        for name in section:
            _check_name(f"{path}.{name}", name, present)
    for name in sorted(present - {config.primary}):
        if name not in config.process.weights:
            raise ValueError(
                errors.message(
                    "config.process.weights",
                    f"nothing for {name!r}",
                    "a rule for each modality but the primary",
                    f"add {name}=dict(rule='bump', scale=1.0)",
                )
            )
    for name, spec in config.process.weights.items():
        path = f"config.process.weights.{name}"
        if name == config.primary:
            raise ValueError(
                errors.message(path, "weights for the primary", "secondaries only", "remove them")
            )
        _check_keys(spec.to_dict(), {"rule": "", "scale": 1.0}, path)
        check_kinds(spec.to_dict(), {"rule": "", "scale": 1.0}, path)
        _check_name(f"{path}.rule", spec.rule, process.RULES)
    choices: tuple[tuple[str, str, Iterable[str]], ...] = (
        ("config.data.source", config.data.source, SOURCES),
        ("config.formulation", config.formulation, FORMULATIONS),
        ("config.process.schedule", config.process.schedule, SCHEDULES),
        ("config.process.given", config.process.given, ("transition", "marginal")),
        ("config.process.target", config.process.target, process.TARGETS),
        ("config.process.variance", config.process.variance, process.VARIANCES),
        ("config.loss.kind", config.loss.kind, LOSSES),
        ("config.loss.weighting", config.loss.weighting, WEIGHTINGS),
        ("config.loss.timesteps", config.loss.timesteps, process.TIMESTEP_DRAWS),
    )
    for path, value, names in choices:
        _check_name(path, value, names)
    check_numbers(config)
    _check_formulation(config, present)


def _check_formulation(config: ConfigDict, present: set[str]) -> None:
    """What only some formulations can do, and what they need."""
    if config.formulation == "predict":
        for name in config.predict.given:
            _check_name("config.predict.given", name, present)
        _check_name("config.predict.target", config.predict.target, present - {config.primary})
        if not config.predict.given:
            raise ValueError(
                errors.message(
                    "config.predict.given", "nothing", "the modalities it sees", "name them"
                )
            )
    if config.formulation == "separate":
        for path, value, plain in (
            ("config.process.variance", config.process.variance, "posterior"),
            ("config.process.shares", config.process.shares.to_dict(), {}),
            ("config.loss.kind", config.loss.kind, "simple"),
        ):
            if value != plain:
                raise ValueError(
                    errors.message(
                        path, value, f"{plain!r} where modalities diffuse separately", "change it"
                    )
                )


def with_backbone_defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a config, with the fields of the backbone that they leave out.

    Example:
        >>> values = with_backbone_defaults({"backbone": {"kind": "unet", "width": 32}})
        >>> values["backbone"]["width"], values["backbone"]["num_res_blocks"]
        (32, 2)
    """
    section = values.get("backbone")
    if not isinstance(section, Mapping) or section.get("kind") not in BACKBONES:
        return dict(values)
    defaults = _field_defaults(BACKBONES[section["kind"]])
    return {**values, "backbone": {**defaults, **section}}


def unknown_override(arguments: Iterable[str]) -> str | None:
    """The error for the first argument `--config.x.y=…` whose key does not exist, or None.

    The keys are those of the file in `--config=FILE`, or without one those of the default.

    Raises:
        ValueError: a config file that cannot be read.

    Example:
        >>> unknown_override(["--config.training.num_step=5"]).split("; ")[-1]
        "did you mean 'num_steps'?"
    """
    arguments = list(arguments)
    place = config_place(arguments)
    named = (default_config() if place is None else read_config_file(place)).to_dict()
    whole = with_backbone_defaults(named)
    for argument in arguments:
        if not argument.startswith("--config."):
            continue
        section: Any = whole
        path = "config"
        for key in argument.partition("=")[0].split(".")[1:]:
            # Sections named by the modalities may be empty.
            if not isinstance(section, Mapping) or not section:
                break
            if key not in section:
                return _unknown_key(path, key, section)
            if path == "config.backbone" and key not in named["backbone"]:
                return errors.message(
                    f"{path}.{key}",
                    "a flag",
                    "a field that the config file names",
                    "name it there, as a flag cannot add to a section",
                )
            path, section = f"{path}.{key}", section[key]
    return None


def config_place(arguments: Iterable[str]) -> str | None:
    """The FILE or FILE:FORM that arguments name by `--config=FILE` or `--config FILE`, or None.

    Example:
        >>> config_place(["--workdir=W", "--config=configs/image_label.py:small"])
        'configs/image_label.py:small'
    """
    words = iter(arguments)
    for word in words:
        name, mark, place = word.partition("=")
        if name in ("--config", "-config"):
            return place if mark else next(words, "")
    return None


def _unknown_key(path: str, key: str, section: Mapping[str, Any]) -> str:
    """The error for a key; one that belongs into a section is shown there."""
    if path == "config":
        # Most of what is asked for without its section is of training.
        for name in sorted(section, key=lambda name: name != "training"):
            inner = section[name] if isinstance(section[name], Mapping) else {}
            for place in [key] if key in inner else errors.nearest(key, inner, cutoff=1.0):
                mend = f"did you mean '{name}.{place}'?"
                return errors.message(path, repr(key), "the key's section too", mend)
    return errors.unknown(path, key, section)


def _check_backbone(section: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that a backbone's section may have, all of it checked."""
    _check_name("config.backbone.kind", section.get("kind", ""), BACKBONES)
    fields = {"kind": "", **_field_defaults(BACKBONES[section["kind"]])}
    elsewhere = {key for module in BACKBONES.values() for key in _field_defaults(module)}
    for key in section:
        if key in fields:
            continue
        if key in elsewhere:
            kind = section["kind"]
            raise ValueError(
                errors.message(
                    "config.backbone",
                    f"{key!r}, a field of another kind",
                    f"the fields of {kind!r}: {', '.join(sorted(fields))}",
                    f"write the section anew, config.backbone = ConfigDict({{'kind': {kind!r}}})",
                )
            )
        raise ValueError(errors.unknown("config.backbone", key, fields))
    return fields


def _field_defaults(module: type[nn.Module]) -> dict[str, Any]:
    """The fields a config may set: those with a default that are not filled in by `build`."""
    hidden = ("parent", "name", "is_primary")
    return {
        field.name: field.default
        for field in dataclasses.fields(module)
        if field.name not in hidden and field.default is not dataclasses.MISSING
    }


def _check_name(path: str, value: str, known: Iterable[str]) -> None:
    if value not in known:
        raise ValueError(errors.unknown(path, value, known))


def _check_keys(given: Mapping[str, Any], known: Mapping[str, Any], path: str) -> None:
    for key, value in given.items():
        if key not in known:
            raise ValueError(errors.unknown(path, key, known))
        if isinstance(known[key], Mapping):
            if not isinstance(value, Mapping):
                raise ValueError(
                    errors.message(f"{path}.{key}", value, "a section", "set the keys inside it")
                )
            if known[key]:
                _check_keys(value, known[key], f"{path}.{key}")
    for key in known:
        if key not in given and key != "kind" and path.count(".") < 2:
            raise ValueError(
                errors.message(f"{path}.{key}", "nothing", "a value", "start from default_config()")
            )
