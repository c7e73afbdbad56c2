"""The arms of a comparison: multi-task training, and what it is to be compared with."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from absl import logging
from ml_collections import ConfigDict

from mmdiffusion_jax import errors, ranges
from mmdiffusion_jax.baselines.separate.unused import leave_unused_out

_MASKED_IMAGE = "masked_image"
_AUGMENTATION_RATE = 0.5


def multi(config: ConfigDict) -> dict[str, ConfigDict]:
    """One model of all modalities, as the config says."""
    return {"joint": config.copy_and_resolve_references()}


def drift(config: ConfigDict) -> dict[str, ConfigDict]:
    """The same model with one task: all modalities drive one state, and nothing is shown.

    This is the bound's own formulation. Given modalities guide by their heads, by Bayes' rule.
    """
    part = config.copy_and_resolve_references()
    _show_nothing(part, {", ".join(sorted(config.modalities)): 1.0})
    part.sampling.guidance = ConfigDict()
    if not part.loss.dropout:
        secondaries = sorted(set(config.modalities) - {config.primary})
        part.loss.dropout = ConfigDict(dict.fromkeys(secondaries, 0.1))
    return {"joint": part}


def predict(config: ConfigDict) -> dict[str, ConfigDict]:
    """A predictor of each secondary modality alone, and no diffusion model.

    A predictor has the same backbone and head and sees the primary, without noise; a restorer of a
    masked image sees the masked image.
    """
    names = sorted(set(config.modalities) - {config.primary})
    return {f"predict_{name}": _predictor(config, name) for name in names}


def single(config: ConfigDict) -> dict[str, ConfigDict]:
    """One model a task: a diffusion model of the primary, and the predictors of `predict`."""
    return {"generate": _primary_alone(config), **predict(config)}


def single_augmented(config: ConfigDict) -> dict[str, ConfigDict]:
    """A diffusion model of the primary that sees masked images only as augmentation.

    Half of its training images have black squares, as the config's masked image or else its section
    `augmentation` says, and the network gets a flag for them.
    """
    part = _primary_alone(config)
    squares = {key: config.augmentation[key] for key in ("num_squares", "square_size")}
    for spec in config.modalities.values():
        if spec.kind == _MASKED_IMAGE:
            squares = {key: spec.get(key, squares[key]) for key in squares}
    rate = config.augmentation.rate or _AUGMENTATION_RATE
    part.augmentation = ConfigDict({"rate": rate, **squares})
    return {"generate": part}


def separate(config: ConfigDict) -> dict[str, ConfigDict]:
    """One model of all modalities with separate diffusions, in noise and in time.

    What the config sets and these make no use of is left out, and the log names it.
    """
    part = config.copy_and_resolve_references()
    part.formulation = "separate"
    if left_out := leave_unused_out(part):
        logging.info(
            "The arm 'separate' leaves out %s, of which separate diffusions make no use.",
            ", ".join(left_out),
        )
    return {"joint": part}


ARMS: Mapping[str, Callable[[ConfigDict], dict[str, ConfigDict]]] = {
    "multi": multi,
    "drift": drift,
    "single": single,
    "predict": predict,
    "single_augmented": single_augmented,
    "separate": separate,
}
"""The arms by name: config → {part: config of one training run}."""


def make_arm(config: ConfigDict, name: str) -> dict[str, ConfigDict]:
    """{part: config}, the training runs of an arm to compare with the config of a multi-task model.

    Each has the backbone and the budget of that config.

    Raises:
        ValueError: an unknown arm, or a config with nothing to compare.

    Example:
        >>> from mmdiffusion_jax.experiment import default_config
        >>> config = default_config()
        >>> config.modalities = ConfigDict({"image": {"kind": "image"}, "label": {"kind": "label"}})
        >>> config.process.weights = ConfigDict({"label": {"rule": "bump", "scale": 1.0}})
        >>> sorted(make_arm(config, "single"))
        ['generate', 'predict_label']
    """
    ranges.check_one_of("arms", name, ARMS)
    if len(config.modalities) < 2 or config.formulation != "shared":
        raise errors.invalid(
            "config",
            f"{len(config.modalities)} modalities in the formulation {config.formulation!r}",
            "two modalities or more in one shared space",
            "compare the config of a multi-task model",
        )
    return ARMS[name](config)


def make_predictor(config: ConfigDict, target: str) -> ConfigDict:
    """The config of a predictor of one modality from the primary, which knows of no other one.

    It has the backbone, the head and the training of a config of more modalities, as the arm
    `predict` has.

    Raises:
        ValueError: a target that is no secondary modality of the config.

    Example:
        >>> from mmdiffusion_jax.experiment import default_config
        >>> config = default_config()
        >>> config.modalities = ConfigDict({name: {"kind": name} for name in ("image", "label")})
        >>> make_predictor(config, "label").predict.to_dict()
        {'given': ('image',), 'target': 'label'}
    """
    ranges.check_one_of("target", target, set(config.modalities) - {config.primary})
    return _predictor(_among(config, {config.primary, target}), target)


def make_variant(config: ConfigDict, name: str, changes: Mapping[str, Any]) -> ConfigDict:
    """The config with other values, {path: value}, such as {"backbone.qk_norm": True}.

    Raises:
        ValueError: a path that the config has not, or a value of another type.

    Example:
        >>> from mmdiffusion_jax.experiment import default_config
        >>> make_variant(default_config(), "deep", {"backbone.depth": 5}).backbone.depth
        5
        >>> make_variant(default_config(), "deep", {"backbone.dept": 5})
        Traceback (most recent call last):
        ValueError: `variants['deep']`: got {'backbone.dept': 5} (...), expected values of the ...
    """
    part = config.copy_and_resolve_references()
    try:
        part.lock().update_from_flattened_dict(dict(changes))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise errors.invalid(
            f"variants[{name!r}]",
            f"{dict(changes)} ({error})",
            "values of the config's own keys",
            "mend them",
        ) from error
    return part


def _predictor(config: ConfigDict, target: str) -> ConfigDict:
    part = config.copy_and_resolve_references()
    part.formulation = "predict"
    source = target if config.modalities[target].kind == _MASKED_IMAGE else config.primary
    part.predict = ConfigDict({"given": (source,), "target": target})
    return _plainly_sampled(part)


def _primary_alone(config: ConfigDict) -> ConfigDict:
    part = _among(config, {config.primary})
    part.process.shares = ConfigDict()
    return _plainly_sampled(part)


def _among(config: ConfigDict, names: Collection[str]) -> ConfigDict:
    """The config of some of the modalities."""
    part = config.copy_and_resolve_references()
    part.modalities = _only(config.modalities, names)
    for section, key in (("process", "weights"), ("process", "shares"), ("loss", "scales")):
        part[section][key] = _only(config[section][key], names)
    part.loss.dropout = _only(config.loss.dropout, names)
    for key in ("kept", "portions"):
        part.data[key] = _only(config.data[key], names)
    return part


def _only(section: ConfigDict, names: Collection[str]) -> ConfigDict:
    return ConfigDict({name: value for name, value in section.items() if name in names})


def _plainly_sampled(part: ConfigDict) -> ConfigDict:
    part.sampling.guidance = part.sampling.decoder_guidance = ConfigDict()
    part.sampling.read_noise = 0.0
    _show_nothing(part, {})
    return part


def _show_nothing(part: ConfigDict, tasks: Mapping[str, float]) -> None:
    part.diffused = part.self_conditioned = part.loss.believed = ()
    part.primary_as_state = False
    part.loss.tasks = ConfigDict(tasks)
    part.loss.shown_noise = ConfigDict()
    part.loss.pure_noise = 0.0
    part.sampling.shown_levels = ConfigDict()
    part.sampling.order = ()
