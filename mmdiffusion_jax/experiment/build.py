"""From a config to an experiment."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from mmdiffusion_jax import errors, process
from mmdiffusion_jax.experiment.config import BACKBONES, SCHEDULES, check_config
from mmdiffusion_jax.experiment.formulations import FORMULATIONS, Terms
from mmdiffusion_jax.experiment.sampler import Generator
from mmdiffusion_jax.experiment.sections import EvaluationOptions, SamplingOptions
from mmdiffusion_jax.experiment.values import under
from mmdiffusion_jax.modalities import MODALITIES
from mmdiffusion_jax.networks import MultiModalModel
from mmdiffusion_jax.sampling import Trajectory
from mmdiffusion_jax.sampling.walk import sample_keys
from mmdiffusion_jax.training import ShardingOptions, TrainingOptions


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Everything a run is made of, built from one config.

    Attributes:
        config: what it was built from.
        seed: of initialisation, steps and data order.
        schedule: the noise schedule.
        weights: the modality weights.
        model: the Flax model.
        loss_terms: (parameters, key, batch) → the terms of the loss.
        training: how long and how to train.
        sharding: the mesh, and what is split over it.
        sampling: how samples are drawn.
        evaluation: how much is evaluated.
    """

    config: ConfigDict
    seed: int
    schedule: process.Schedule
    weights: process.ModalityWeights
    model: MultiModalModel
    loss_terms: Terms
    training: TrainingOptions
    sharding: ShardingOptions
    sampling: SamplingOptions
    evaluation: EvaluationOptions

    @property
    def formulation(self) -> str:
        """What is asked of the model: "shared", "separate" or "predict"."""
        return self.config.formulation

    @property
    def has_bound(self) -> bool:
        """Whether its model has the bound of one diffusion space, and so likelihoods."""
        return self.formulation == "shared"

    @property
    def predicts_from(self) -> tuple[str, ...]:
        """The modalities that it predicts from without diffusion; empty where it generates."""
        return tuple(self.config.predict.given) if self.formulation == "predict" else ()

    def loss(
        self, params: Any, key: jax.Array, batch: Any, **options: Any
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The loss of a batch and its scalars, the terms reduced."""
        return self.loss_terms(params, key, batch, **options).reduce()

    @functools.cached_property
    def generate(self) -> Generator:
        """Draws samples with this experiment's model and options."""
        return self.generator(self.sampling)

    def generator(self, options: SamplingOptions) -> Generator:
        """Draws samples with this experiment's model and other options."""
        formulation = FORMULATIONS[self.formulation]
        draw = formulation.make_draw(self.config, self.schedule, self.weights, self.model, options)
        prior = self.weights if formulation.has_prior else None
        return Generator(self.model, draw, options, prior)

    def trajectory(
        self,
        key: jax.Array,
        params: Any,
        num_samples: int,
        given: Mapping[str, np.ndarray],
        num_states: int,
    ) -> Trajectory:
        """The first samples that `generate` draws with the same key, on their way from the noise.

        All are held in memory at once, num_states times: for a few samples.

        Args:
            key: a typed key.
            params: the model's parameters.
            num_samples: how many samples.
            given: {name: x (num_samples, …)} in data units.
            num_states: how many states of each.

        Raises:
            ValueError: a formulation without one diffusion space, the primary given, more states
                than are visited, or bad values.
        """
        make = FORMULATIONS[self.formulation].make_trajectory
        if make is None:
            raise ValueError(
                errors.message(
                    "trajectory",
                    f"a run of the formulation {self.formulation!r}",
                    "one of 'shared', whose samples walk through one diffusion space",
                    "leave it out",
                )
            )
        visited = len(self.sampling.times(self.schedule))
        if not 1 <= num_states <= visited:
            raise ValueError(
                errors.message(
                    "trajectory",
                    num_states,
                    f"a whole number in 1 … {visited}, the states that are visited",
                    "change it, or num_steps",
                )
            )
        self.generate.check(num_samples, given)
        follow = make(self.config, self.schedule, self.weights, self.model, self.sampling)
        keys = sample_keys(key, num_samples)
        known = {name: jnp.asarray(x) for name, x in given.items()}
        return jax.jit(follow, static_argnums=3)(keys, params, known, num_states)

    def init(self, key: jax.Array) -> Any:
        """Fresh parameters of the model."""
        batch = {name: self.blank(name) for name in self.model.modalities}
        return self.model.init(key, batch, jnp.ones((1,), jnp.int32))["params"]

    def blank(self, name: str) -> jax.Array:
        """One example of zeros of a modality, (1, …), for what needs shape and dtype alone."""
        shape, kind = self.model.modalities[name].columns
        return jnp.zeros((1, *shape), jnp.int32 if kind == "integer" else jnp.float32)

    def check_params(self, argument: str, params: Any) -> None:
        """Checks that parameters have the names, shapes and dtypes of this experiment's.

        Args:
            argument: what the caller knows their file by.
            params: nested dictionaries of arrays.

        Raises:
            ValueError: it names the first parameter that differs.
        """
        wanted = jax.eval_shape(self.init, jax.random.key(0))
        ours, theirs = (
            {
                jax.tree_util.keystr(keys): (leaf.shape, str(leaf.dtype))
                for keys, leaf in jax.tree_util.tree_leaves_with_path(tree)
            }
            for tree in (wanted, params)
        )
        for name in sorted({*ours, *theirs}):
            if ours.get(name) != theirs.get(name):
                raise ValueError(
                    errors.message(
                        argument,
                        f"{theirs.get(name, 'nothing')} for {name}",
                        f"{ours.get(name, 'nothing')}, as its config says",
                        "export it anew",
                    )
                )


def build(config: ConfigDict) -> Experiment:
    """Checks a config and builds the experiment it describes.

    Raises:
        ValueError: an unknown key, name or modality (with the nearest known one), or a value of
            another kind or out of its range; it has the value's path in the config.
    """
    check_config(config)
    latent = tuple(config.latent)
    modalities = {}
    for name, spec in config.modalities.items():
        with under(f"config.modalities.{name}"):
            modalities[name] = MODALITIES[spec.kind](
                latent=latent, is_primary=name == config.primary, **_without_kind(spec)
            )
    with under("config.process"):
        schedule = SCHEDULES[config.process.schedule](config.process.num_steps)
    weights = process.modality_weights(
        schedule,
        {
            name: process.RULES[spec.rule](spec.scale)
            for name, spec in config.process.weights.items()
        },
        given=config.process.given,
    )
    formulation = FORMULATIONS[config.formulation]
    channels = latent[2] * (2 if config.process.variance == "learned" else 1)
    with under("config.backbone"):
        backbone = BACKBONES[config.backbone.kind](
            latent=(*latent[:2], formulation.state_channels(latent[2], len(modalities))),
            out_channels=channels,
            num_steps=config.process.num_steps,
            **_without_kind(config.backbone),
        )
        backbone.check()
    with under("config"):
        training = TrainingOptions(**config.training)
        sharding = ShardingOptions(**config.sharding)
        sampling = SamplingOptions(**config.sampling.to_dict())
        evaluation = EvaluationOptions(**config.evaluation)
    with under("config.sampling"):
        sampling.reading_times(schedule)
    model = formulation.model_type(
        modalities=modalities,
        backbone=backbone,
        primary=config.primary,
        target=config.process.target,
        variance=config.process.variance,
        shares=config.process.shares.to_dict() or None,
        trained_without=_trained_without(config),
        sees_augmented=config.augmentation.rate > 0,
    )
    return Experiment(
        config=config,
        seed=config.seed,
        schedule=schedule,
        weights=weights,
        model=model,
        loss_terms=formulation.make_terms(config, schedule, weights, model),
        training=training,
        sharding=sharding,
        sampling=sampling,
        evaluation=evaluation,
    )


def _trained_without(config: ConfigDict) -> tuple[str, ...]:
    """The modalities that the loss drops from some states."""
    rates = config.loss.dropout if config.loss.kind == "simple" else {}
    return tuple(sorted(n for n in rates if rates[n] > 0 and n != config.primary))


def _without_kind(section: ConfigDict) -> dict[str, Any]:
    return {key: value for key, value in section.items() if key != "kind"}
