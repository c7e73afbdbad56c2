"""From a config to an experiment."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from mmdiffusion_jax import errors
from mmdiffusion_jax.experiment.formulation import Formulation
from mmdiffusion_jax.experiment.formulations import formulation_of
from mmdiffusion_jax.experiment.sampler import Generator
from mmdiffusion_jax.experiment.sections import EvaluationOptions, SamplingOptions
from mmdiffusion_jax.experiment.sections.reading import under
from mmdiffusion_jax.experiment.settings import Settings, read_settings
from mmdiffusion_jax.networks import MultiModalModel
from mmdiffusion_jax.process import Process
from mmdiffusion_jax.sampling import Trajectory
from mmdiffusion_jax.sampling.loop import sample_keys
from mmdiffusion_jax.training import ShardingOptions, TrainingOptions


@dataclasses.dataclass(frozen=True)
class Experiment:
    """What one config describes: settings, forward process, model and formulation.

    Attributes:
        settings: the config's values, checked.
        process: the forward process.
        model: the Flax model.
    """

    settings: Settings
    process: Process
    model: MultiModalModel

    @property
    def seed(self) -> int:
        """The seed of initialisation, steps and data order."""
        return self.settings.seed

    @property
    def training(self) -> TrainingOptions:
        """How long and how to train."""
        return self.settings.training

    @property
    def sharding(self) -> ShardingOptions:
        """The mesh of devices, and which arrays are split over it."""
        return self.settings.sharding

    @property
    def sampling(self) -> SamplingOptions:
        """How samples are drawn."""
        return self.settings.sampling

    @property
    def evaluation(self) -> EvaluationOptions:
        """How many examples and samples the evaluation takes, and by which features."""
        return self.settings.evaluation

    @functools.cached_property
    def formulation(self) -> Formulation:
        """The loss that trains the model, and how it is sampled from."""
        return self._formulation(self.settings)

    def loss(
        self, params: Any, key: jax.Array, batch: Mapping[str, jax.Array]
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """(loss, scalars by name) of a batch: the terms of the formulation, reduced."""
        return self.formulation.loss(params, key, batch).reduce()

    @functools.cached_property
    def generate(self) -> Generator:
        """Draws samples with this experiment's model and options."""
        return self.generator(self.sampling)

    def generator(
        self, options: SamplingOptions, weaker: "tuple[Experiment, Any] | None" = None
    ) -> Generator:
        """Draws samples with this experiment's model and other options.

        Args:
            options: how samples are drawn.
            weaker: the experiment and the parameters of `sampling.autoguidance`.

        Raises:
            ValueError: more steps than the schedule has, options that the formulation lacks, a
                weaker experiment with another process or other modalities, or one whose guidance
                has a scale of 1, at which it does nothing.
        """
        options.times_given_primary(self.process.schedule)
        formulation = self._formulation(dataclasses.replace(self.settings, sampling=options))
        if weaker is not None:
            other, params = weaker
            self._check_weaker(other)
            if options.autoguidance == 1:
                raise errors.invalid(
                    "autoguidance",
                    "1.0, no guidance, beside a weaker model",
                    "another scale, above 1 to amplify the difference",
                    "give one, such as 2.0, or leave `weaker` out",
                )
            formulation = dataclasses.replace(formulation, weaker=other.model)
            return Generator(self.model, formulation.sample, options, self.process, params)
        prior = self.process if formulation.has_bound else None
        return Generator(self.model, formulation.sample, options, prior)

    def _check_weaker(self, other: "Experiment") -> None:
        for key in ("formulation", "latent", "process", "primary", "modalities"):
            ours, theirs = getattr(self.settings, key), getattr(other.settings, key)
            if ours != theirs or self.settings.formulation != "shared":
                raise errors.invalid(
                    "weaker",
                    f"a model whose {key} is {theirs}",
                    f"{ours}, in the formulation 'shared'",
                    "choose a smaller network or an earlier checkpoint of the same kind",
                )

    def _formulation(self, settings: Settings) -> Formulation:
        return formulation_of(settings).make(settings, self.process, self.model)

    def trajectory(
        self,
        key: jax.Array,
        params: Any,
        num_samples: int,
        given: Mapping[str, np.ndarray],
        num_states: int,
    ) -> Trajectory:
        """The states z_t that lead from noise to the samples that `generate` draws of the same key.

        All num_samples · num_states of them are held in memory at once.

        Raises:
            ValueError: a formulation without one diffusion space, a given primary, more states
                than the grid has, or bad values.
        """
        trajectory = self.formulation.trajectory
        if trajectory is None:
            raise errors.invalid(
                "trajectory",
                f"a run of the formulation {self.settings.formulation!r}",
                "one of 'shared', which has one diffusion space",
                "leave it out",
            )
        visited = len(self.sampling.times(self.process.schedule))
        if not 1 <= num_states <= visited:
            raise errors.invalid(
                "trajectory",
                num_states,
                f"a whole number in 1 … {visited}, the states that are visited",
                "change it, or num_steps",
            )
        self.generate.check(num_samples, given)
        keys = sample_keys(key, num_samples)
        arrays = {name: jnp.asarray(x) for name, x in given.items()}
        return jax.jit(trajectory, static_argnums=3)(keys, params, arrays, num_states)

    def init(self, key: jax.Array) -> Any:
        """Fresh parameters of the model."""
        batch = {name: self.blank(name) for name in self.model.modalities}
        return self.model.init(key, batch, jnp.ones((1,), jnp.int32))["params"]

    @functools.cached_property
    def param_shapes(self) -> Any:
        """The tree of `init`, with `jax.ShapeDtypeStruct` in the place of arrays."""
        return jax.eval_shape(self.init, jax.random.key(0))

    def blank(self, name: str) -> jax.Array:
        """One example of zeros of a modality, (1, …), where only shape and dtype count."""
        shape, kind = self.model.modalities[name].columns
        return jnp.zeros((1, *shape), jnp.int32 if kind == "integer" else jnp.float32)

    def check_params(self, argument: str, params: Any) -> None:
        """Checks that parameters have the names, shapes and dtypes of this experiment's model.

        Raises:
            ValueError: naming the first parameter that differs.
        """
        ours, theirs = (
            {
                jax.tree_util.keystr(keys): f"{leaf.dtype}{list(leaf.shape)}"
                for keys, leaf in jax.tree_util.tree_leaves_with_path(tree)
            }
            for tree in (self.param_shapes, params)
        )
        for name in sorted({*ours, *theirs}):
            if ours.get(name) != theirs.get(name):
                raise errors.invalid(
                    argument,
                    f"{theirs.get(name, 'nothing')} for {name}",
                    f"{ours.get(name, 'nothing')}, as its config says",
                    "export it anew",
                )


def check_config(config: ConfigDict) -> Settings:
    """Checks every key, every name and every number in a config.

    Raises:
        ValueError: naming the key by its path, what it got and what was expected.
    """
    settings = read_settings(config)
    with under("config"):
        formulation_of(settings)
    return settings


def build(config: ConfigDict) -> Experiment:
    """Checks a config and builds the experiment it describes.

    Raises:
        ValueError: an unknown key, name or modality (with the nearest known one), or a value of
            another kind or out of its range; it has the value's path in the config.
    """
    settings = check_config(config)
    modalities = settings.make_modalities()
    with under("config"):
        process = settings.process.make()
    with under("config.sampling"):
        settings.sampling.times_given_primary(process.schedule)
    kind = formulation_of(settings)
    model = kind.model_type(
        modalities=modalities,
        backbone=settings.make_backbone(settings.latent[2] * kind.num_states(len(modalities))),
        primary=settings.primary,
        target=settings.process.target,
        variance=settings.process.variance,
        shares=settings.process.shares or None,
        droppable=_droppable(settings),
        shows=settings.shows,
        self_conditioned=tuple(sorted(settings.self_conditioned)),
        diffuses=tuple(sorted(settings.diffused)),
        sees_augmented=settings.augmentation.rate > 0,
        primary_as_state=settings.primary_as_state,
    )
    return Experiment(settings, process, model)


def _droppable(settings: Settings) -> tuple[str, ...]:
    """The modalities that the loss drops from some states, or hides though they are known."""
    rates = settings.loss.dropout if settings.loss.kind == "simple" else {}
    return tuple(sorted(n for n in rates if rates[n] > 0))
