"""Separate spaces as a formulation of an experiment."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax

from mmdiffusion_jax import objective
from mmdiffusion_jax.baselines.separate.loss import separate_loss_terms
from mmdiffusion_jax.baselines.separate.network import SeparateModel
from mmdiffusion_jax.baselines.separate.sample import sample_separate
from mmdiffusion_jax.model import split_presence
from mmdiffusion_jax.process import Schedule
from mmdiffusion_jax.sampling import Method


@dataclasses.dataclass(frozen=True)
class Separate:
    """Trains and samples a model whose modalities diffuse separately.

    Attributes:
        schedule: the noise schedule, of all modalities.
        model: joins the parts.
        latent: the shape of each modality's state.
        options: of the loss, of which scales and weighting alone are used.
        method: how samples are drawn.
        limit: the estimate of the primary's clean state is clipped to ± this; None leaves it.
    """

    schedule: Schedule
    model: SeparateModel
    latent: tuple[int, ...]
    options: objective.LossOptions
    method: Method
    limit: float | None = None
    has_bound: ClassVar[bool] = False
    predicts_from: ClassVar[tuple[str, ...]] = ()
    needs: ClassVar[tuple[str, ...]] = ()
    trajectory: ClassVar[None] = None

    def loss(
        self, params: Any, key: jax.Array, batch: Mapping[str, jax.Array]
    ) -> objective.LossTerms:
        """See `separate_loss_terms`."""
        values, presence = split_presence(batch)
        functions = self.model.separate_functions(params)
        return separate_loss_terms(key, self.schedule, functions, values, presence, self.options)

    def sample(
        self, keys: jax.Array, params: Any, given: Mapping[str, jax.Array]
    ) -> dict[str, jax.Array]:
        """Draws what is not given, by `sample_separate`."""
        drawn = sample_separate(
            keys,
            self.schedule,
            self.model.separate_functions(params),
            (keys.shape[0], *self.latent),
            given,
            self.method,
            self.limit,
        )
        return {name: x for name, x in drawn.items() if name not in given}
