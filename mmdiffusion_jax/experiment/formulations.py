"""The formulations by the names that configs know them by: the shared space, and its rivals."""

import dataclasses
import functools
import operator
from collections.abc import Callable, Mapping
from typing import Any

from mmdiffusion_jax import baselines, errors, ranges, sampling
from mmdiffusion_jax.experiment.formulation import Formulation, Shared
from mmdiffusion_jax.experiment.settings import Settings
from mmdiffusion_jax.modalities import MODALITIES
from mmdiffusion_jax.networks import MultiModalModel
from mmdiffusion_jax.process import Process


@dataclasses.dataclass(frozen=True)
class Kind:
    """How a formulation is made of settings.

    Attributes:
        make: (settings, process, model) → the formulation.
        check: raises a ValueError for settings that it cannot take.
        model_type: joins encoders, backbone and heads.
        num_states: number of modalities → number of states that the backbone sees at once.
    """

    make: Callable[[Settings, Process, Any], Formulation]
    check: Callable[[Settings], None] = lambda settings: None
    model_type: type[MultiModalModel] = MultiModalModel
    num_states: Callable[[int], int] = lambda num_modalities: 1


def _shared(settings: Settings, process: Process, model: MultiModalModel) -> Shared:
    squares = settings.augmentation
    augment = functools.partial(
        baselines.hide_squares,
        rate=squares.rate,
        num_squares=squares.num_squares,
        square_size=squares.square_size,
    )
    return Shared(
        process,
        model,
        settings.latent,
        settings.loss,
        settings.sampling,
        augment if squares.rate else None,
    )


def _separate(
    settings: Settings, process: Process, model: baselines.SeparateModel
) -> baselines.Separate:
    options = settings.sampling
    is_bounded = model.modalities[model.primary].is_bounded
    return baselines.Separate(
        process.schedule,
        model,
        settings.latent,
        settings.loss.of_simple_loss(),
        sampling.Method(options.stepper(), options.times(process.schedule)),
        None if options.threshold_of(is_bounded) == "none" else 1.0,
    )


def _check_separate(settings: Settings) -> None:
    for path, accepted in baselines.unused_by_separate(settings.to_dict()).items():
        raise errors.invalid(
            path,
            operator.attrgetter(path)(settings),
            f"{' or '.join(map(repr, accepted))} where modalities diffuse separately",
            "change it",
        )


def _predict(settings: Settings, process: Process, model: MultiModalModel) -> baselines.Predict:
    del process
    return baselines.Predict(model, settings.predict.given, settings.predict.target)


def _check_predict(settings: Settings) -> None:
    names, section = set(settings.modalities), settings.predict
    for name in section.given:
        ranges.check_one_of("predict.given", name, names)
    targets = names - {settings.primary}
    ranges.check_one_of("predict.target", section.target, targets)
    if not section.given:
        raise errors.invalid("predict.given", "nothing", "the modalities it sees", "name them")
    target: Any = settings.modalities[section.target]
    if section.target in section.given and not MODALITIES[target["kind"]].is_partial_view:
        raise errors.invalid(
            "predict.given",
            f"{section.target!r}, the target itself, of which nothing is hidden",
            "other modalities than the target",
            "leave it out",
        )


FORMULATIONS: Mapping[str, Kind] = {
    "shared": Kind(_shared),
    "separate": Kind(_separate, _check_separate, baselines.SeparateModel, lambda number: number),
    "predict": Kind(_predict, _check_predict),
}
"""The formulations by the names that configs know them by."""


def formulation_of(settings: Settings) -> Kind:
    """The formulation that settings name, once it has checked them.

    Raises:
        ValueError: an unknown formulation, or settings that it cannot take.
    """
    ranges.check_one_of("formulation", settings.formulation, FORMULATIONS)
    kind = FORMULATIONS[settings.formulation]
    kind.check(settings)
    return kind
