"""The parts of the multi-modal model, joined with separate noise and time of each modality."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from mmdiffusion_jax.baselines.separate.functions import SeparateFunctions
from mmdiffusion_jax.model import Prediction
from mmdiffusion_jax.networks.embeddings import time_embedding
from mmdiffusion_jax.networks.multimodal import MultiModalModel

_TIME_FEATURES = 64


class SeparateModel(MultiModalModel):
    """The same encoders, backbone and heads for separately diffusing modalities.

    The backbone sees the states of all modalities as channels, the primary's first, the primary's
    time as its t and the others' times as context; so its latent has N times the channels.
    """

    def __call__(self, batch: Mapping[str, jax.Array], t: jax.Array) -> Prediction:
        """Runs every part once, for initialisation."""
        states = {name: self.encode(name, x) for name, x in batch.items()}
        prediction = self.denoise_separately(states, dict.fromkeys(states, t))
        for name in self.modalities:
            if name != self.primary:
                self.expected_encoding(name, prediction.heads[name])
        return prediction

    def denoise_separately(
        self, states: Mapping[str, jax.Array], times: Mapping[str, jax.Array]
    ) -> Prediction:
        """The backbone's prediction about the primary, and every head's parameters.

        Args:
            states: {name: (batch, *latent)}.
            times: {name: (batch,)}, 0 for what is given.
        """
        others = [name for name in sorted(self.modalities) if name != self.primary]
        z = jnp.concatenate([states[name] for name in (self.primary, *others)], axis=-1)
        total = self.backbone.num_steps
        context = [time_embedding(times[name], total, _TIME_FEATURES) for name in others]
        features, value = self.backbone(
            z, times[self.primary], jnp.concatenate(context, axis=-1) if context else None
        )
        heads = {name: modality.head(features) for name, modality in self.modalities.items()}
        return Prediction(value, heads)

    def input_names(self) -> dict[str, tuple[str, ...]]:
        """Nothing: no layer of this backbone reads one modality by an input of its own."""
        return {}

    def separate_functions(self, params: Any) -> SeparateFunctions:
        """The model as plain functions with parameters, the tree under "params" of `init`."""
        apply: Any = functools.partial(self.apply, {"params": params})
        return SeparateFunctions(
            denoise=functools.partial(apply, method="denoise_separately"),
            modalities=self.modality_functions(params),
            primary=self.primary,
            target=self.target,
        )
