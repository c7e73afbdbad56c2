"""From a config to an experiment: the only reader of the config, and the judge of its keys."""

import dataclasses
import functools
import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict, config_dict

from mmdiffusion_jax import data, errors, objective, process
from mmdiffusion_jax.evaluation import EvaluationOptions
from mmdiffusion_jax.generation import Generator, SamplingOptions
from mmdiffusion_jax.modalities import MODALITIES, Modality
from mmdiffusion_jax.networks import DiT, MultiModalModel
from mmdiffusion_jax.training import TrainingOptions

SCHEDULES: Mapping[str, Callable[[int], process.Schedule]] = {
    "linear": process.linear_schedule,
    "cosine": process.cosine_schedule,
    "sigmoid": process.sigmoid_schedule,
}
WEIGHTINGS: Mapping[str, Callable[[], Callable[[jax.Array], jax.Array]]] = {
    "none": lambda: objective.no_weighting,
    "min_snr": objective.min_snr_weighting,
    "p2": objective.p2_weighting,
}
BACKBONES: Mapping[str, type[nn.Module]] = {"dit": DiT}
SOURCES = ("digits", "tfds", "npz")
LOSSES = ("simple", "bound")

# What an earlier run may have had otherwise without being another experiment.
_MAY_CHANGE = (
    "training.num_steps",
    "training.log_every",
    "training.eval_every",
    "training.sample_every",
    "training.checkpoint_every",
    "training.keep",
    "sampling",
    "evaluation",
    "data.folder",
)


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Everything a run is made of, built from one config.

    Attributes:
        seed: of initialisation, steps and data order.
        schedule: the noise schedule.
        weights: the modality weights.
        model: the Flax model.
        loss: (parameters, key, batch) → (loss, scalars).
        training: how long and how to train.
        sampling: how samples are drawn.
        evaluation: how much is evaluated.
    """

    seed: int
    schedule: process.Schedule
    weights: process.ModalityWeights
    model: MultiModalModel
    loss: Callable[
        [Any, jax.Array, Mapping[str, jax.Array]], tuple[jax.Array, dict[str, jax.Array]]
    ]
    training: TrainingOptions
    sampling: SamplingOptions
    evaluation: EvaluationOptions

    @functools.cached_property
    def generate(self) -> Generator:
        """Draws samples with this experiment's model and options."""
        return Generator(self.schedule, self.weights, self.model, self.sampling)

    def init(self, key: jax.Array) -> Any:
        """Fresh parameters of the model."""
        batch = {}
        for name, modality in self.model.modalities.items():
            shape, kind = modality.columns
            batch[name] = jnp.zeros((1, *shape), jnp.int32 if kind == "integer" else jnp.float32)
        return self.model.init(key, batch, jnp.ones((1,), jnp.int32))["params"]


def default_config() -> ConfigDict:
    """Every key there is, with its default; a config file starts here and changes some.

    Three sections are named by the modalities and so have no keys of their own here:
    `modalities`, `process.weights` and `loss.scales` / `loss.dropout`.

    Example:
        >>> default_config().process.schedule
        'cosine'
    """
    config = {
        "seed": 0,
        "data": {"source": "digits", "folder": "data", "train": "train", "test": "test"},
        "latent": (8, 8, 1),
        "modalities": {},
        "primary": "image",
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
        "sampling": {
            **dataclasses.asdict(SamplingOptions()),
            "num_steps": config_dict.placeholder(int),
        },
        "evaluation": dataclasses.asdict(EvaluationOptions()),
    }
    return ConfigDict(config)


def build(config: ConfigDict) -> Experiment:
    """Checks a config and builds the experiment it describes.

    Raises:
        ValueError: an unknown key, name or modality (with the nearest known one), or a value out
            of its range.
    """
    check_config(config)
    latent = tuple(config.latent)
    modalities = {
        name: MODALITIES[spec.kind](
            latent=latent, is_primary=name == config.primary, **_without_kind(spec)
        )
        for name, spec in config.modalities.items()
    }
    schedule = SCHEDULES[config.process.schedule](config.process.num_steps)
    weights = process.modality_weights(
        schedule,
        {
            name: process.RULES[spec.rule](spec.scale)
            for name, spec in config.process.weights.items()
        },
        given=config.process.given,
    )
    channels = latent[2] * (2 if config.process.variance == "learned" else 1)
    model = MultiModalModel(
        modalities=modalities,
        backbone=BACKBONES[config.backbone.kind](
            latent=latent,
            out_channels=channels,
            num_steps=config.process.num_steps,
            **_without_kind(config.backbone),
        ),
        primary=config.primary,
        target=config.process.target,
        variance=config.process.variance,
        shares=config.process.shares.to_dict() or None,
        trained_without=_trained_without(config),
    )
    return Experiment(
        seed=config.seed,
        schedule=schedule,
        weights=weights,
        model=model,
        loss=_loss(config, schedule, weights, model),
        training=TrainingOptions(**config.training),
        sampling=SamplingOptions(**config.sampling.to_dict()),
        evaluation=EvaluationOptions(**config.evaluation),
    )


def _trained_without(config: ConfigDict) -> tuple[str, ...]:
    """The modalities that the loss drops from some states."""
    rates = config.loss.dropout if config.loss.kind == "simple" else {}
    return tuple(sorted(n for n in rates if rates[n] > 0 and n != config.primary))


def check_config(config: ConfigDict) -> None:
    """Checks every key and every name in a config.

    Raises:
        ValueError: naming the key by its path, what it got and what was expected.
    """
    _check_keys(config.to_dict(), default_config().to_dict(), "config")
    if not config.modalities:
        raise ValueError(
            errors.message("config.modalities", "none", "at least one modality", "name them")
        )
    for name, spec in config.modalities.items():
        _check_name(f"config.modalities.{name}.kind", spec.get("kind", ""), MODALITIES)
        known = {"kind": "", **_field_defaults(MODALITIES[spec.kind])}
        _check_keys(spec.to_dict(), known, f"config.modalities.{name}")
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
        _check_name(f"{path}.rule", spec.rule, process.RULES)
    choices: tuple[tuple[str, str, Iterable[str]], ...] = (
        ("config.data.source", config.data.source, SOURCES),
        ("config.process.schedule", config.process.schedule, SCHEDULES),
        ("config.process.given", config.process.given, ("transition", "marginal")),
        ("config.process.target", config.process.target, process.TARGETS),
        ("config.process.variance", config.process.variance, process.VARIANCES),
        ("config.backbone.kind", config.backbone.kind, BACKBONES),
        ("config.loss.kind", config.loss.kind, LOSSES),
        ("config.loss.weighting", config.loss.weighting, WEIGHTINGS),
        ("config.loss.timesteps", config.loss.timesteps, process.TIMESTEP_DRAWS),
    )
    for path, value, names in choices:
        _check_name(path, value, names)


def unknown_override(arguments: Iterable[str]) -> str | None:
    """The error for the first argument `--config.x.y=…` whose key does not exist, or None.

    Example:
        >>> unknown_override(["--config.training.num_step=5"]).split("; ")[-1]
        "did you mean 'num_steps'?"
    """
    for argument in arguments:
        if not argument.startswith("--config."):
            continue
        section: Any = default_config().to_dict()
        path = "config"
        for key in argument.partition("=")[0].split(".")[1:]:
            # Sections named by the modalities are empty in the default.
            if not isinstance(section, Mapping) or not section:
                break
            if key not in section:
                return errors.unknown(path, key, section)
            path, section = f"{path}.{key}", section[key]
    return None


def open_data(config: ConfigDict) -> tuple[data.Source, data.Source]:
    """Opens (and for the digits prepares) the training and the test split, checked.

    Raises:
        ValueError: data that are missing, damaged, or do not fit the modalities.
    """
    experiment_modalities = build(config).model.modalities
    section = config.data
    sources: tuple[data.Source, data.Source]
    if section.source == "npz":
        sources = data.open_npz(section.train), data.open_npz(section.test)
    else:
        folder = (
            data.digits.prepare(section.folder) if section.source == "digits" else section.folder
        )
        sources = data.open_tfds(folder, section.train), data.open_tfds(folder, section.test)
    for source, split in zip(sources, ("train", "test"), strict=True):
        check_source(source, experiment_modalities, split)
    return sources


def check_source(source: data.Source, modalities: Mapping[str, Modality], split: str) -> None:
    """Checks that a source has every modality, in its shape, kind and range.

    The range is checked on all examples of a source in memory, on the first 1,024 of another.

    Raises:
        ValueError: naming split and modality, what came and what was expected.
    """
    for name, modality in modalities.items():
        if name not in source.columns:
            raise ValueError(
                errors.unknown(
                    f"{split} data", name, source.columns, f"the modality {name!r} needs an array"
                )
            )
        (shape, dtype), (expected, kind) = source.columns[name], modality.columns
        if tuple(shape) != tuple(expected) or not np.issubdtype(dtype, getattr(np, kind)):
            raise ValueError(
                errors.message(
                    f"{split} data, {name}",
                    f"examples of shape {tuple(shape)} and dtype {np.dtype(dtype)}",
                    f"shape {tuple(expected)} and {kind} values",
                    "reshape the data (an image has a channel axis) or correct the config",
                )
            )
    whole = len(source) if isinstance(source, data.ArraySource) else min(1024, len(source))
    values = source.take(np.arange(whole))
    for name, modality in modalities.items():
        modality.validate(f"{split} data, {name}", values[name])


def claim_workdir(workdir: str | os.PathLike[str], config: ConfigDict) -> Path:
    """Makes `workdir` this experiment's, or checks that it is.

    The config is kept in `workdir/config.json`. A run may go on with other intervals, another
    number of steps, or other sampling and evaluation; anything else is another experiment.

    Raises:
        ValueError: a workdir that holds another experiment or none that can be read; nothing in it
            is touched.
    """
    path = Path(workdir)
    file = path / "config.json"
    ours = _plain(config)
    if file.exists():
        theirs = _plain(read_config(path))
        different = [key for key in _differences(theirs, ours) if not key.startswith(_MAY_CHANGE)]
        if different:
            key = different[0]
            raise ValueError(
                errors.message(
                    "workdir",
                    f"{path}, which holds an experiment that differs in {', '.join(different)} "
                    f"({key} is {_look_up(theirs, key)!r} there, {_look_up(ours, key)!r} here)",
                    "an empty folder or the same experiment",
                    "choose another workdir",
                )
            )
    elif (path / "checkpoints").exists():
        raise ValueError(
            errors.message(
                "workdir",
                f"{path}, which has checkpoints but no config.json",
                "an empty folder or a whole experiment",
                "choose another workdir",
            )
        )
    path.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(".tmp")
    temporary.write_text(json.dumps(ours, indent=2) + "\n", encoding="utf-8")
    os.replace(temporary, file)
    return path


def read_config(workdir: str | os.PathLike[str]) -> ConfigDict:
    """Reads the config an experiment was started with.

    Raises:
        ValueError: no experiment there, or a damaged `config.json`.
    """
    file = Path(workdir) / "config.json"
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(
            errors.message(
                "workdir", str(workdir), "a folder with a config.json", "train there first"
            )
        ) from error
    except ValueError as error:
        raise ValueError(
            errors.message("workdir", f"a damaged {file}", "valid JSON", "restore that file")
        ) from error
    return ConfigDict(_tuples(values))


def _loss(
    config: ConfigDict,
    schedule: process.Schedule,
    weights: process.ModalityWeights,
    model: MultiModalModel,
) -> Callable[..., tuple[jax.Array, dict[str, jax.Array]]]:
    section = config.loss
    options: dict[str, Any] = {"timesteps": section.timesteps}
    function: Callable[..., Any] = objective.bound_loss
    if section.kind == "simple":
        function = objective.simple_loss
        options["modality_scales"] = section.scales.to_dict()
        options["dropout"] = section.dropout.to_dict()
        options["weighting"] = WEIGHTINGS[section.weighting]()

    def loss(params: Any, key: jax.Array, batch: Mapping[str, jax.Array]) -> Any:
        values, presence = objective.split_presence(batch)
        return function(
            key, schedule, weights, model.functions(params), values, presence, **options
        )

    return loss


def _field_defaults(module: type[nn.Module]) -> dict[str, Any]:
    """The fields a config may set: those with a default that are not filled in by `build`."""
    hidden = ("parent", "name", "is_primary")
    return {
        field.name: field.default
        for field in dataclasses.fields(module)
        if field.name not in hidden and field.default is not dataclasses.MISSING
    }


def _without_kind(section: ConfigDict) -> dict[str, Any]:
    return {key: value for key, value in section.items() if key != "kind"}


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


def _plain(config: ConfigDict) -> dict[str, Any]:
    return json.loads(json.dumps(config.to_dict()))


def _tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tuples(inner) for key, inner in value.items()}
    return tuple(_tuples(inner) for inner in value) if isinstance(value, list) else value


def _differences(a: Mapping[str, Any], b: Mapping[str, Any], prefix: str = "") -> list[str]:
    found = []
    for key in sorted({*a, *b}):
        one, other = a.get(key), b.get(key)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            found += _differences(one, other, f"{prefix}{key}.")
        elif one != other:
            found.append(prefix + key)
    return found


def _look_up(values: Any, path: str) -> Any:
    for key in path.split("."):
        values = values.get(key) if isinstance(values, Mapping) else None
    return values
