"""From a config to an experiment."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from mmdiffusion_jax import objective, process
from mmdiffusion_jax.evaluation import EvaluationOptions
from mmdiffusion_jax.experiment.config import BACKBONES, SCHEDULES, WEIGHTINGS, check_config
from mmdiffusion_jax.generation import Generator, SamplingOptions
from mmdiffusion_jax.modalities import MODALITIES
from mmdiffusion_jax.networks import MultiModalModel
from mmdiffusion_jax.training import TrainingOptions


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


def _without_kind(section: ConfigDict) -> dict[str, Any]:
    return {key: value for key, value in section.items() if key != "kind"}
