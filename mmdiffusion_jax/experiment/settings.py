"""The values of a config, section by section, checked."""

import dataclasses
import operator
from collections.abc import Iterable, Mapping
from typing import Any

import flax.linen as nn
from ml_collections import ConfigDict, FieldReference, config_dict

from mmdiffusion_jax import errors, model, ranges
from mmdiffusion_jax.experiment.sections import (
    AugmentationOptions,
    DataOptions,
    EvaluationOptions,
    LossOptions,
    PredictOptions,
    ProcessOptions,
    SamplingOptions,
)
from mmdiffusion_jax.experiment.sections.choices import Choice, complete, make
from mmdiffusion_jax.experiment.sections.reading import check_whole_numbers, default_of, read, under
from mmdiffusion_jax.modalities import MODALITIES, Modality
from mmdiffusion_jax.model.believing import check_beliefs
from mmdiffusion_jax.networks import DiT, UNet, UViT
from mmdiffusion_jax.sampling import parse_order
from mmdiffusion_jax.training import ShardingOptions, TrainingOptions

# Of what tasks know, the share that is hidden, for classifier-free guidance (Ho & Salimans 2022).
_DROPOUT = 0.1

BACKBONES: Mapping[str, type[nn.Module]] = {"dit": DiT, "unet": UNet, "uvit": UViT}
"""The networks by the names that configs know them by."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """A whole config: every key with its default, checked.

    Attributes:
        seed: of initialisation, steps and data order.
        init_from: a workdir, or a file that launch/export.py wrote, whose averaged parameters
            training begins with, wherever name, shape and dtype are the same; "" for none.
        data: which data, and where they lie.
        latent: (height, width, channels) of the diffusion space.
        modalities: {name: {"kind": a name in `MODALITIES`, **its fields}}.
        primary: the modality that is diffused, and drives joint samples.
        diffused: others that are diffused too, where they are asked for without the primary: draws
            of them go from noise to data in as many states, in the place of one answer by a head.
        self_conditioned: the modalities of which the network sees its own estimate, by a first call
            on the same state, where they are asked for. Sampling costs twice the calls.
        primary_as_state: whether a known primary is the state, at the time of its noise, where
            nothing else is in the state, in the place of being shown beside an empty one.
        formulation: a name in `FORMULATIONS`.
        predict: of the formulation "predict".
        augmentation: of training images.
        process: the diffusion process.
        backbone: {"kind": a name in `BACKBONES`, **its fields}.
        loss: what training minimises.
        training: how long and how to train.
        sharding: the mesh of devices, and which arrays are split over it.
        sampling: how samples are drawn.
        evaluation: how much is evaluated.

    Raises:
        ValueError: an unknown modality, a value out of its range, or what `loss.believed` is drawn
            from that no task knows.

    Example:
        >>> settings = Settings(modalities={"image": "image"})
        >>> settings.modalities, settings.backbone["kind"], settings.backbone["width"]
        ({'image': {'kind': 'image', 'num_levels': 256}}, 'dit', 64)
    """

    seed: int = 0
    init_from: str = ""
    data: DataOptions = dataclasses.field(default_factory=DataOptions)
    latent: tuple[int, ...] = (8, 8, 1)
    modalities: Mapping[str, Choice] = dataclasses.field(default_factory=dict)
    primary: str = "image"
    diffused: tuple[str, ...] = ()
    self_conditioned: tuple[str, ...] = ()
    primary_as_state: bool = False
    formulation: str = "shared"
    predict: PredictOptions = dataclasses.field(default_factory=PredictOptions)
    augmentation: AugmentationOptions = dataclasses.field(default_factory=AugmentationOptions)
    process: ProcessOptions = dataclasses.field(default_factory=ProcessOptions)
    backbone: Choice = dataclasses.field(default="dit", metadata={"table": BACKBONES})
    loss: LossOptions = dataclasses.field(default_factory=LossOptions)
    training: TrainingOptions = dataclasses.field(default_factory=TrainingOptions)
    sharding: ShardingOptions = dataclasses.field(default_factory=ShardingOptions)
    sampling: SamplingOptions = dataclasses.field(default_factory=SamplingOptions)
    evaluation: EvaluationOptions = dataclasses.field(default_factory=EvaluationOptions)

    def __post_init__(self) -> None:
        ranges.check_whole("seed", self.seed, 0, ranges.MAX_SEED)
        check_whole_numbers("config.latent", self.latent, 3, 1)
        size = self.latent[0] * self.latent[1] * self.latent[2]
        if size > ranges.INT32:
            raise errors.invalid(
                "config.latent", self.latent, f"at most {ranges.INT32} entries", "make it smaller"
            )
        most = min(self.latent[:2])
        ranges.check_whole("augmentation.square_size", self.augmentation.square_size, 1, most)
        object.__setattr__(self, "backbone", complete("backbone", self.backbone, BACKBONES))
        if not self.modalities:
            raise errors.invalid("modalities", "none", "at least one modality", "name them")
        whole = {
            name: complete(f"modalities.{name}", value, MODALITIES)
            for name, value in self.modalities.items()
        }
        object.__setattr__(self, "modalities", whole)
        self._check_names()
        object.__setattr__(self, "loss", self._whole_loss())

    def _whole_loss(self) -> LossOptions:
        """The loss with its tasks, and with dropout of what these know."""
        loss = self.loss
        if self.formulation != "shared" or loss.kind != "simple":
            if loss.tasks:
                raise errors.invalid(
                    "loss.tasks",
                    ", ".join(map(repr, loss.tasks)),
                    "none but with the simple loss of the formulation 'shared'",
                    "leave them out",
                )
            return loss
        kinds: dict[str, Any] = dict(self.modalities)
        never, before = (
            [name for name in kinds if MODALITIES[kinds[name]["kind"]].drawn == when]
            for when in ("never", "before")
        )
        tasks = loss.tasks or model.default_tasks(kinds, self.primary, never, self.diffused, before)
        if not tasks:
            return loss
        with under("config.loss"):
            known = _known(tasks, kinds)
            for name in loss.believed:
                ranges.check_one_of("believed", name, set(known) - {self.primary})
            check_beliefs(loss.believed, model.parse_tasks(tasks, kinds), known)
        changes: dict[str, Any] = {"tasks": tasks}
        changes["dropout"] = {**dict.fromkeys(known, _DROPOUT), **loss.dropout}
        if known and loss.weighting == {"kind": "auto"} and self.process.target != "noise":
            changes["weighting"] = "v"
        return dataclasses.replace(loss, **changes)

    @property
    def shows(self) -> tuple[str, ...]:
        """The modalities that tasks know, which the network is shown."""
        return _known(self.loss.tasks, self.modalities) if self.loss.tasks else ()

    def _check_names(self) -> None:
        """Checks that sections name known modalities, and that each secondary has weights."""
        names = set(self.modalities)
        for name in names:
            if name.removesuffix("_present") in names - {name}:
                raise errors.invalid(
                    f"modalities.{name}",
                    f"a name that stands for the mask of {name.removesuffix('_present')!r}",
                    "a name that no mask has",
                    "rename the modality and its column",
                )
        ranges.check_one_of("primary", self.primary, names)
        for name in self.diffused:
            ranges.check_one_of("diffused", name, names - {self.primary})
        for name in self.self_conditioned:
            ranges.check_one_of("self_conditioned", name, names)
        trained = self.formulation == "shared" and self.loss.kind == "simple"
        for key in ("diffused", "self_conditioned"):
            if getattr(self, key) and (self.process.shares or not trained):
                raise errors.invalid(
                    key,
                    getattr(self, key),
                    "nothing but with the simple loss of the formulation 'shared', without shares",
                    "leave it out",
                )
        for path in (
            "process.weights",
            "process.shares",
            "loss.scales",
            "loss.dropout",
            "loss.shown_noise",
            "sampling.guidance",
            "sampling.decoder_guidance",
            "sampling.shown_levels",
        ):
            for name in operator.attrgetter(path)(self):
                ranges.check_one_of(f"{path}.{name}", name, names)
        for stage in parse_order(self.sampling.order):
            for name in stage:
                ranges.check_one_of("sampling.order", name, names)
        for name in sorted(names - {self.primary} - set(self.process.weights)):
            raise errors.invalid(
                "process.weights",
                f"nothing for {name!r}",
                "a rule for each modality but the primary",
                f"add {name}=dict(rule='bump', scale=1.0)",
            )
        if self.primary in self.process.weights:
            raise errors.invalid(
                f"process.weights.{self.primary}",
                "weights for the primary",
                "secondaries only",
                "remove them",
            )

    def make_modalities(self) -> dict[str, Modality]:
        """The modalities, which share the latent.

        Raises:
            ValueError: fields that do not go with the latent, or with each other.
        """
        modalities = {}
        for name, value in self.modalities.items():
            with under(f"config.modalities.{name}"):
                modalities[name] = make(
                    value, MODALITIES, latent=self.latent, is_primary=name == self.primary
                )
        for name in self.diffused:
            if not modalities[name].holds:
                raise errors.invalid(
                    "config.diffused",
                    f"{name!r}, whose encoding does not hold it",
                    f"some of {sorted(each for each in modalities if modalities[each].holds)}",
                    "leave it out, or see docs/sampling.md for what can be diffused",
                )
        return modalities

    def make_backbone(self, state_channels: int) -> Any:
        """The network, for an input of so many channels.

        Raises:
            ValueError: fields that do not go with the latent, or with each other.
        """
        out_channels = self.latent[2] * (2 if self.process.variance == "learned" else 1)
        with under("config.backbone"):
            backbone = make(
                self.backbone,
                BACKBONES,
                latent=(*self.latent[:2], state_channels),
                out_channels=out_channels,
                num_steps=self.process.num_steps,
            )
            backbone.check()
        return backbone

    def to_dict(self) -> dict[str, Any]:
        """All values, nested, with plain types; `read_settings` takes them back.

        Files that keep an experiment have this, as JSON.
        """
        return dataclasses.asdict(self)


def _known(tasks: Mapping[str, float], names: Iterable[str]) -> tuple[str, ...]:
    """The names of what tasks know, sorted."""
    return tuple(sorted({name for task in model.parse_tasks(tasks, names) for name in task.known}))


def default_config() -> ConfigDict:
    """Every key with its default; a config file starts from this and changes some.

    Sections whose keys are names of modalities are empty: `modalities`, `process.weights`,
    `process.shares`, `loss.scales` and `loss.dropout`. A choice by name, such as `backbone`,
    `process.schedule` or `sampling.sampler`, has the fields of its kind; for another kind it is
    written anew, and what it leaves out has its default:
    `config.backbone = ConfigDict({"kind": "unet", "width": 128})`,
    `config.process.schedule = "linear"`, `config.sampling.sampler = "ddim(eta=0.5)"`.

    Example:
        >>> default_config().process.schedule.to_dict()
        {'kind': 'cosine', 'offset': 0.008}
    """
    return ConfigDict(_defaults(Settings))


def read_settings(values: Mapping[str, Any] | ConfigDict) -> Settings:
    """Checks every key, every name and every number of a config.

    Args:
        values: of a config; what it leaves out has its default.

    Raises:
        ValueError: an unknown key, name or modality (with the nearest known one), or a value of
            another kind or out of its range; it has the value's path in the config.

    Example:
        >>> settings = read_settings({"modalities": {"image": "image"}})
        >>> settings.modalities["image"]
        {'kind': 'image', 'num_levels': 256}
    """
    plain = values.to_dict() if isinstance(values, ConfigDict) else values
    return read(Settings, _tuples(plain), "config")


def tables() -> dict[str, Mapping[str, Any]]:
    """{path in a config: table} of the sections that are a choice by name."""
    return dict(_tables(Settings, ""))


class _Choice(FieldReference):
    """A key whose value is a section, a name, or a name with fields."""

    def set(self, value: Any, type_safe: bool = True) -> None:
        """Sets the value; a dict becomes a section, as elsewhere in a config."""
        super().set(ConfigDict(value) if isinstance(value, dict) else value, type_safe)


def _defaults(section: Any) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for field in dataclasses.fields(section):
        name = field.name
        if dataclasses.is_dataclass(field.type):
            values[name] = _defaults(field.type)
            continue
        values[name] = default_of(field)
        if "table" in field.metadata:
            whole = complete(name, values[name], field.metadata["table"])
            values[name] = _Choice(ConfigDict(whole), field_type=object)
        elif values[name] is None:
            # The one number that may be left open.
            values[name] = config_dict.placeholder(int)
    return values


def _tables(section: Any, path: str) -> Any:
    for field in dataclasses.fields(section):
        if dataclasses.is_dataclass(field.type):
            yield from _tables(field.type, f"{path}{field.name}.")
        elif "table" in field.metadata:
            yield f"{path}{field.name}", field.metadata["table"]


def _tuples(value: Any) -> Any:
    """JSON has lists where configs have tuples."""
    if isinstance(value, Mapping):
        return {key: _tuples(inner) for key, inner in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value
