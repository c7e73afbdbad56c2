"""What a config may ask of a model: one diffusion space, separate ones, or prediction alone."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax

from mmdiffusion_jax import errors, objective, sampling
from mmdiffusion_jax.experiment.augmentation import hide_squares
from mmdiffusion_jax.experiment.sampler import Draw
from mmdiffusion_jax.experiment.sections import SamplingOptions
from mmdiffusion_jax.experiment.settings import Settings
from mmdiffusion_jax.modalities import restored
from mmdiffusion_jax.model import Diffusion, ModelFunctions, function_of, split_presence
from mmdiffusion_jax.networks import MultiModalModel, SeparateModel
from mmdiffusion_jax.process import Process

Terms = Callable[..., objective.LossTerms]
"""(parameters, key, batch) → the terms of the loss. That of "shared" also takes `adapt`, what
becomes of the model's functions before they are asked, such as other encoders."""

Follow = Callable[[jax.Array, Any, Mapping[str, jax.Array], int], sampling.Trajectory]
"""(keys (batch,), parameters, {name: known x (batch, …)}, how many states) → states on the way."""


@dataclasses.dataclass(frozen=True)
class Formulation:
    """One way to train and to use the same encoders, backbone and heads.

    Attributes:
        model_type: joins them.
        state_channels: (latent's channels, number of modalities) → channels the backbone sees.
        make_terms: (settings, process, model) → the terms of the loss.
        make_draw: (settings, process, model, sampling options) → draws samples.
        has_prior: whether it generates from the noise at t = T of one shared space.
        make_trajectory: (as `make_draw`) → follows samples on their way; None where it cannot.
    """

    model_type: type[MultiModalModel]
    state_channels: Callable[[int, int], int]
    make_terms: Callable[[Settings, Process, Any], Terms]
    make_draw: Callable[[Settings, Process, Any, SamplingOptions], Draw]
    has_prior: bool = False
    make_trajectory: Callable[[Settings, Process, Any, SamplingOptions], Follow] | None = None


def _shared_terms(
    settings: Settings,
    process: Process,
    model: MultiModalModel,
) -> Terms:
    section = settings.loss
    options = objective.LossOptions(
        modality_scales=section.scales,
        weighting=section.make_weighting(),
        dropout=section.dropout,
        timesteps=section.timesteps,
    )

    def terms(
        params: Any,
        key: jax.Array,
        batch: Mapping[str, jax.Array],
        adapt: Callable[[ModelFunctions], ModelFunctions] = lambda model: model,
    ) -> Any:
        values, presence = split_presence(batch)
        augmented = None
        if model.sees_augmented:
            key, own = jax.random.split(key)
            augmented, images = hide_squares(
                own, values[model.primary], **dataclasses.asdict(settings.augmentation)
            )
            values[model.primary] = images
        diffusion = Diffusion(process, adapt(model.functions(params, augmented)))
        if section.kind == "simple":
            return objective.simple_loss_terms(key, diffusion, values, presence, options)
        return objective.bound_loss_terms(
            key, diffusion, values, presence, timesteps=options.timesteps
        )

    return terms


def _shared_request(
    settings: Settings,
    process: Process,
    model: MultiModalModel,
    options: SamplingOptions,
) -> Callable[..., dict[str, Any]]:
    """(keys, parameters, known values) → the arguments of `sampling.sample`."""
    schedule = process.schedule
    times, reading_times = options.times(schedule), options.reading_times(schedule)
    is_bounded = _is_bounded(model)

    def request(keys: jax.Array, params: Any, known: Mapping[str, jax.Array]) -> dict[str, Any]:
        return {
            "key": keys,
            "diffusion": Diffusion(process, model.functions(params)),
            "shape": (keys.shape[0], *settings.latent),
            "given": known,
            "method": sampling.Method(
                stepper=options.stepper(),
                times=reading_times if model.primary in known else times,
                decorators=options.decorators(known, is_bounded),
                estimate=options.estimate,
                unknown=options.unknown,
                read=options.read,
                corrections=options.corrections,
            ),
        }

    return request


def _shared_draw(
    settings: Settings,
    process: Process,
    model: MultiModalModel,
    options: SamplingOptions,
) -> Draw:
    request = _shared_request(settings, process, model, options)

    def draw(keys: jax.Array, params: Any, known: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        made = sampling.sample(**request(keys, params, known))
        return {name: x for name, x in made.items() if name not in known}

    return draw


def _shared_trajectory(
    settings: Settings,
    process: Process,
    model: MultiModalModel,
    options: SamplingOptions,
) -> Follow:
    request = _shared_request(settings, process, model, options)

    def follow(
        keys: jax.Array, params: Any, known: Mapping[str, jax.Array], num_states: int
    ) -> sampling.Trajectory:
        asked = request(keys, params, known)
        return sampling.sample_trajectory(**asked, num_states=num_states)[1]

    return follow


def _is_bounded(model: MultiModalModel) -> bool:
    """Whether z_0, a mean of the encodings that have a share in it, lies within [−1, 1]."""
    shares = model.shares or {model.primary: 1.0}
    return all(model.modalities[name].is_bounded for name, share in shares.items() if share)


def _separate_terms(
    settings: Settings,
    process: Process,
    model: SeparateModel,
) -> Terms:
    section = settings.loss

    def terms(params: Any, key: jax.Array, batch: Mapping[str, jax.Array]) -> Any:
        values, presence = split_presence(batch)
        return objective.separate_loss_terms(
            key,
            process.schedule,
            model.separate_functions(params),
            values,
            presence,
            modality_scales=section.scales,
            weighting=section.make_weighting(),
        )

    return terms


def _separate_draw(
    settings: Settings,
    process: Process,
    model: SeparateModel,
    options: SamplingOptions,
) -> Draw:
    method = sampling.Method(options.stepper(), options.times(process.schedule))
    is_bounded = model.modalities[model.primary].is_bounded
    limit = None if options.threshold_of(is_bounded) == "none" else 1.0
    plain = SamplingOptions()
    for name in ("guidance", "decoder_guidance", "estimate", "read", "read_noise", "corrections"):
        if getattr(options, name) != getattr(plain, name):
            raise ValueError(
                errors.message(
                    f"sampling.{name}",
                    getattr(options, name),
                    f"{getattr(plain, name)!r} where modalities diffuse separately",
                    "leave it out",
                )
            )

    def draw(keys: jax.Array, params: Any, known: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        made = sampling.sample_separate(
            keys,
            process.schedule,
            model.separate_functions(params),
            (keys.shape[0], *settings.latent),
            known,
            method,
            limit,
        )
        return {name: x for name, x in made.items() if name not in known}

    return draw


def _predict_terms(
    settings: Settings,
    process: Process,
    model: MultiModalModel,
) -> Terms:
    del process
    given, target = settings.predict.given, settings.predict.target

    def terms(params: Any, key: jax.Array, batch: Mapping[str, jax.Array]) -> Any:
        del key
        values, presence = split_presence(batch)
        functions = model.functions(params)
        return objective.prediction_loss_terms(
            functions, values, presence, given=given, target=target
        )

    return terms


def _predict_draw(
    settings: Settings,
    process: Process,
    model: MultiModalModel,
    options: SamplingOptions,
) -> Draw:
    del process, options
    given, target = settings.predict.given, settings.predict.target

    def draw(keys: jax.Array, params: Any, known: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        del keys
        if set(known) != set(given):
            raise ValueError(
                errors.message(
                    "given", sorted(known), f"{sorted(given)}, all it predicts from", "give these"
                )
            )
        functions = model.functions(params)
        head = objective.predict(functions, known, given, target)
        found = function_of(functions, target, "most_likely")(head)
        whole = model.modalities[target].derived_from
        if target in given and whole is not None:
            return {whole: restored(found)}
        return {target: found}

    return draw


FORMULATIONS: Mapping[str, Formulation] = {
    "shared": Formulation(
        MultiModalModel, lambda c, n: c, _shared_terms, _shared_draw, True, _shared_trajectory
    ),
    "separate": Formulation(SeparateModel, lambda c, n: c * n, _separate_terms, _separate_draw),
    "predict": Formulation(MultiModalModel, lambda c, n: c, _predict_terms, _predict_draw),
}
"""The formulations by the names that configs know them by."""


def check_formulation(settings: Settings) -> None:
    """Checks what only some formulations can do, and what they need.

    Raises:
        ValueError: an unknown formulation, or settings that it cannot take.
    """
    if settings.formulation not in FORMULATIONS:
        raise ValueError(errors.unknown("formulation", settings.formulation, FORMULATIONS))
    names = set(settings.modalities)
    if settings.formulation == "predict":
        for name in settings.predict.given:
            if name not in names:
                raise ValueError(errors.unknown("predict.given", name, names))
        targets = names - {settings.primary}
        if settings.predict.target not in targets:
            raise ValueError(errors.unknown("predict.target", settings.predict.target, targets))
        if not settings.predict.given:
            raise ValueError(
                errors.message("predict.given", "nothing", "the modalities it sees", "name them")
            )
    if settings.formulation == "separate":
        for path, value, plain in (
            ("process.variance", settings.process.variance, "posterior"),
            ("process.shares", settings.process.shares, {}),
            ("loss.kind", settings.loss.kind, "simple"),
        ):
            if value != plain:
                raise ValueError(
                    errors.message(
                        path, value, f"{plain!r} where modalities diffuse separately", "change it"
                    )
                )
