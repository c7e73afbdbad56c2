"""A formulation: the loss that trains a model and how it is sampled from; the shared space's."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol

import jax

from mmdiffusion_jax import objective, sampling
from mmdiffusion_jax.experiment.sections import LossOptions, SamplingOptions
from mmdiffusion_jax.modalities import Modality
from mmdiffusion_jax.model import Diffusion, ModelFunctions, split_presence
from mmdiffusion_jax.process import Process
from mmdiffusion_jax.sampling import Fixed, Noised, Trajectory

Follow = Callable[[jax.Array, Any, Mapping[str, jax.Array], int], Trajectory]
"""(keys (batch,), parameters, {name: given x (batch, …)}, number of states) → trajectory."""

Augment = Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
"""(key, images) → (1 where an image was changed, else 0 (batch,); the images)."""


class Model(Protocol):
    """A model of the shared formulation, such as `networks.MultiModalModel`."""

    @property
    def modalities(self) -> Mapping[str, Modality]:
        """By name."""

    @property
    def primary(self) -> str:
        """The modality that z_0 encodes."""

    @property
    def shares(self) -> Mapping[str, float] | None:
        """{name: share in z_0}, or None for the primary alone."""

    def functions(self, params: Any, augmented: jax.Array | None = None) -> ModelFunctions:
        """The model with these parameters as plain functions.

        Args:
            params: the tree that training changes.
            augmented: (batch,) of 0 or 1, which examples are augmented; None where none are.
        """


class Formulation(Protocol):
    """The loss that trains a model, and how it is sampled from; frozen dataclasses fulfil it."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field]]

    @property
    def model(self) -> Any:
        """Encoders, backbone and heads."""

    @property
    def has_bound(self) -> bool:
        """Whether there is one diffusion space, with a bound, likelihoods, and noise at t = T."""

    @property
    def predicts_from(self) -> tuple[str, ...]:
        """The modalities that it predicts from without diffusion; empty where it generates."""

    @property
    def needs(self) -> tuple[str, ...]:
        """The modalities without all of which a training example is of no use to it."""

    @property
    def trajectory(self) -> Follow | None:
        """Samples with the states that lead to them; None without one diffusion space."""

    def loss(
        self, params: Any, key: jax.Array, batch: Mapping[str, jax.Array]
    ) -> objective.LossTerms:
        """The terms of the training loss.

        Args:
            params: the model's parameters.
            key: a typed key.
            batch: {name: x (batch, …)}, with masks `<name>_present` (batch,) of some.

        Raises:
            ValueError: bad masks or batches; each names what is wrong.
        """

    def sample(
        self, keys: jax.Array, params: Any, given: Mapping[str, jax.Array]
    ) -> dict[str, jax.Array]:
        """Draws the modalities that are not given.

        Args:
            keys: (batch,) typed keys, one an example.
            params: the model's parameters.
            given: {name: x (batch, …)} in data units.

        Returns:
            {name: x (batch, …)} in data units, of the drawn modalities alone.

        Raises:
            ValueError: given values that it cannot draw from.
        """


@dataclasses.dataclass(frozen=True)
class Shared:
    """One diffusion space of all modalities.

    Attributes:
        process: the forward process.
        model: encoders, backbone and heads.
        latent: (height, width, channels) of z_t.
        options: of the loss.
        sampling: how samples are drawn.
        augment: changes some training images, and the network sees which; None for none.
        weaker: the model of `sampling.autoguidance`, of the same process; None for none.
    """

    process: Process
    model: Model
    latent: tuple[int, ...]
    options: LossOptions
    sampling: SamplingOptions
    augment: Augment | None = None
    weaker: Model | None = None
    has_bound: ClassVar[bool] = True
    predicts_from: ClassVar[tuple[str, ...]] = ()
    needs: ClassVar[tuple[str, ...]] = ()

    def loss(
        self, params: Any, key: jax.Array, batch: Mapping[str, jax.Array]
    ) -> objective.LossTerms:
        """The terms of `objective.simple_loss`, or of the bound."""
        values, presence = split_presence(batch)
        augmented = None
        if self.augment is not None:
            key, augment_key = jax.random.split(key)
            primary = self.model.primary
            augmented, values[primary] = self.augment(augment_key, values[primary])
        diffusion = Diffusion(self.process, self.model.functions(params, augmented))
        if self.options.kind == "simple":
            options = self.options.of_simple_loss()
            return objective.simple_loss_terms(key, diffusion, values, presence, options)
        return objective.bound_loss_terms(
            key, diffusion, values, presence, timesteps=self.options.timesteps
        )

    def sample(
        self,
        keys: jax.Array,
        params: Any,
        given: Mapping[str, jax.Array],
        fixed: Mapping[str, Fixed] | None = None,
        begin: Mapping[str, Noised] | None = None,
        weaker: Any = None,
    ) -> dict[str, jax.Array]:
        """Draws the modalities that are not given, by `sampling.sample`.

        The parameters of the weaker model guide where there are any.
        """
        arguments = self._arguments(keys, params, given)
        if self.weaker is not None and weaker is not None:
            other = Diffusion(self.process, self.weaker.functions(weaker))
            decorate = sampling.autoguidance(other, *self.sampling.autoguidance_options())
            method = arguments["method"]
            # Innermost, so that a threshold is of what is guided.
            decorators = (decorate, *method.decorators)
            arguments["method"] = dataclasses.replace(method, decorators=decorators)
        drawn = sampling.sample(**arguments, fixed=fixed, begin=begin)
        return {name: x for name, x in drawn.items() if name not in given}

    def trajectory(
        self, keys: jax.Array, params: Any, given: Mapping[str, jax.Array], num_states: int
    ) -> Trajectory:
        """The states that lead to the samples that `sample` draws with the same keys."""
        arguments = self._arguments(keys, params, given)
        return sampling.sample_trajectory(**arguments, num_states=num_states)[1]

    def _arguments(
        self, keys: jax.Array, params: Any, given: Mapping[str, jax.Array]
    ) -> dict[str, Any]:
        options, schedule = self.sampling, self.process.schedule
        functions = self.model.functions(params)
        carried = set(given) - set(functions.shows)
        reads = self.model.primary in carried
        times = options.times_given_primary(schedule) if reads else options.times(schedule)
        return {
            "key": keys,
            "diffusion": Diffusion(self.process, functions),
            "shape": (keys.shape[0], *self.latent),
            "given": given,
            "method": sampling.Method(
                stepper=options.stepper(),
                times=times,
                decorators=options.decorators(given, carried, self._bounded()),
                estimate=options.estimate,
                unknown=options.unknown,
                read=options.read,
                corrections=options.corrections,
                order=options.order or None,
                shown_levels=options.shown_levels,
            ),
        }

    def _bounded(self) -> list[str]:
        """The modalities that keep z_0 within [−1, 1] where they are diffused.

        The primary's is a mean of the encodings that have a share in it, or one that is to be kept
        so because the options name a threshold.
        """
        modalities, primary = self.model.modalities, self.model.primary
        shares = self.model.shares or {primary: 1.0}
        whole = all(modalities[name].is_bounded for name, x in shares.items() if x)
        if self.sampling.threshold != "auto":
            whole = True
        return [
            name
            for name, modality in modalities.items()
            if (whole if name == primary else modality.is_bounded)
        ]
