"""The multi-modal model: encoders, one shared backbone and one head a modality, joined by name."""

import functools
import itertools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmdiffusion_jax.modalities import Modality
from mmdiffusion_jax.model import (
    ModalityFunctions,
    ModelFunctions,
    Prediction,
    Roles,
    Shown,
    all_carried,
)
from mmdiffusion_jax.model.absence import choose_rows

# Rows and columns of the maps in the summary of what is shown.
_COARSE = 4


class MultiModalModel(nn.Module):
    """One model of many modalities.

    Attributes:
        modalities: {name: modality}.
        backbone: the shared denoiser, a module that is a `model.Backbone`.
        primary: the modality that z_0 encodes.
        target: what the backbone predicts: "noise", "z_0" or "v".
        variance: "posterior", "upper" or "learned".
        shares: {name: share in z_0}, or None for the primary alone.
        droppable: the modalities that training drops from some states.
        shows: the modalities that the backbone sees beside z_t where they are known.
        self_conditioned: those of which it sees its own estimate where they are asked for.
        diffuses: the secondaries that are diffused where they are asked for without the primary.
        sees_augmented: whether the backbone's context says which examples are augmented, so that it
            learns from them and does not generate such (Karras et al. 2022, appendix F.2).
        primary_as_state: whether a known primary is the state z_t, at the time of its noise, of
            examples whose state would be empty, in the place of being shown beside it. What the
            layers learn by denoising then serves those who ask for the rest.
    """

    modalities: Mapping[str, Modality]
    backbone: nn.Module
    primary: str
    target: str = "noise"
    variance: str = "posterior"
    shares: Mapping[str, float] | None = None
    droppable: tuple[str, ...] | None = None
    shows: tuple[str, ...] = ()
    self_conditioned: tuple[str, ...] = ()
    diffuses: tuple[str, ...] = ()
    sees_augmented: bool = False
    primary_as_state: bool = False

    def __call__(self, batch: Mapping[str, jax.Array], t: jax.Array) -> Prediction:
        """Runs every part once, for initialisation."""
        encodings = {name: self.encode(name, x) for name, x in batch.items()}
        roles = all_carried(self.modalities, t.shape[0])
        prediction = self.denoise(encodings[self.primary], t, roles)
        for name in self.modalities:
            if name != self.primary:
                self.expected_encoding(name, prediction.heads[name])
        return prediction

    def encode(self, name: str, x: jax.Array) -> jax.Array:
        """E_name(x), (batch, *latent)."""
        return self.modalities[name].encode(x)

    def expected_encoding(self, name: str, head: Any) -> jax.Array:
        """The mean of E_name over the head's distribution, (batch, *latent)."""
        return self.modalities[name].expected_encoding(head)

    def encoding_variance(self, name: str, head: Any) -> jax.Array:
        """The variance of E_name over the head's distribution, (batch, *latent)."""
        return self.modalities[name].encoding_variance(head)

    def denoise(
        self, z_t: jax.Array, t: jax.Array, roles: Roles, augmented: jax.Array | None = None
    ) -> Prediction:
        """The backbone's prediction about z_t and every head's parameters.

        Args:
            z_t: (batch, *latent).
            t: (batch,).
            roles: which part each modality plays; the backbone sees what is not carried, the
                encodings of what is known, and which modality is diffused.
            augmented: (batch,) of 0 or 1; left out, nothing is augmented.
        """
        if self.primary_as_state and self.primary in roles.encodings:
            z_t, t, roles = self._with_primary_as_state(z_t, t, roles)
        context = [
            1 - roles.carried(name).astype(z_t.dtype)
            for name in sorted(self.modalities)
            if name != self.primary
        ]
        if self.sees_augmented:
            context.append(jnp.zeros(t.shape, z_t.dtype) if augmented is None else augmented)
        inputs: tuple[Any, ...] = (z_t, t, jnp.stack(context, axis=-1) if context else None)
        if self.shows or self.self_conditioned or self.diffuses:
            inputs += (self._shown(z_t, roles),)
        features, value = self.backbone(*inputs)
        heads = {name: modality.head(features) for name, modality in self.modalities.items()}
        if self.variance != "learned":
            return Prediction(value, heads)
        value, mix = jnp.split(value, 2, axis=-1)
        return Prediction(value, heads, variance_mix=(mix + 1) / 2)

    def _with_primary_as_state(
        self, z_t: jax.Array, t: jax.Array, roles: Roles
    ) -> tuple[jax.Array, jax.Array, Roles]:
        """z_s at its s for the empty states at t = T of examples that know the primary."""
        rows = roles.known(self.primary) & ~roles.carries_any()
        share = roles.levels.get(self.primary, jnp.zeros(t.shape))
        s = jnp.maximum(jnp.round(share * t), 1).astype(t.dtype)
        state = choose_rows(rows, roles.encodings[self.primary].astype(z_t.dtype), z_t)
        return state, jnp.where(rows, s, t), roles.unseen(self.primary, rows)

    def _shown(self, z_t: jax.Array, roles: Roles) -> Shown:
        names = sorted({*self.shows, *self.self_conditioned})
        maps = [z_t[..., :0], *(roles.shown(name, z_t) for name in names)]
        flags = [
            flag
            for name in names
            for flag in (roles.seen(name).astype(z_t.dtype), roles.clarity(name, z_t.dtype))
        ]
        flags += [roles.diffused(name).astype(z_t.dtype) for name in self.diffuses]
        flags += [roles.estimated(name).astype(z_t.dtype) for name in self.self_conditioned]
        whole = jnp.concatenate(maps, axis=-1)
        # A label's code is the same everywhere: convolutions alone are slow to gather it.
        rows, columns = (min(side, _COARSE) for side in whole.shape[1:3])
        coarse = jax.image.resize(whole, (len(z_t), rows, columns, whole.shape[-1]), "linear")
        summary = [jnp.stack(flags, axis=-1), coarse.reshape(len(z_t), -1)]
        return Shown(whole, jnp.concatenate(summary, axis=-1))

    def input_names(self) -> dict[str, tuple[str, ...]]:
        """What the backbone's layers of the context and of what is shown read, input by input.

        Returns:
            {layer: names of its inputs}, with the modality before a "/". They are the rows of the
            layer's kernel, its axis before the last; a layer that reads patches has them once for
            each pixel of a patch.

        Example:
            >>> from mmdiffusion_jax.modalities import MODALITIES
            >>> label = MODALITIES["label"](latent=(8, 8, 1), num_classes=3)
            >>> image = MODALITIES["image"](latent=(8, 8, 1), is_primary=True)
            >>> model = MultiModalModel({"image": image, "label": label}, None, "image")
            >>> model.input_names()["context"]
            ('label',)
        """
        context = [name for name in sorted(self.modalities) if name != self.primary]
        if self.sees_augmented:
            context.append("augmented")
        names = sorted({*self.shows, *self.self_conditioned})
        height, width, channels = self.modalities[self.primary].latent
        maps = [f"{name}/{channel}" for name in names for channel in range(channels)]
        summary = [f"{name}/{flag}" for name in names for flag in ("seen", "clarity")]
        summary += [f"{name}/diffused" for name in self.diffuses]
        summary += [f"{name}/estimated" for name in self.self_conditioned]
        rows, columns = (min(side, _COARSE) for side in (height, width))
        places = itertools.product(range(rows), range(columns), maps)
        summary += [f"{entry} at {row}, {column}" for row, column, entry in places]
        layers = {"context": context, "shown": maps}
        layers |= dict.fromkeys(("shown_summary", "shown_places", "context_tokens"), summary)
        return {layer: tuple(inputs) for layer, inputs in layers.items()}

    def in_float32(self) -> "MultiModalModel":
        """The same model with a backbone that computes in float32, for the same parameters.

        It is for likelihoods by derivatives: the rounding of bfloat16 would add up over the steps,
        and its fused attention on GPUs has no forward-mode derivative.
        """
        if getattr(self.backbone, "dtype", "float32") == "float32":
            return self
        return self.clone(backbone=self.backbone.clone(dtype="float32"))

    def functions(self, params: Any, augmented: jax.Array | None = None) -> ModelFunctions:
        """The model with these parameters as plain functions, for the objective and the samplers.

        Args:
            params: the tree under "params" of `init`.
            augmented: (batch,) of 0 or 1, which examples of the batch at hand are augmented.
        """
        denoise: Any = functools.partial(self.apply, {"params": params}, method="denoise")
        if self.sees_augmented:
            denoise = functools.partial(denoise, augmented=augmented)
        return ModelFunctions(
            denoise=denoise,
            modalities=self.modality_functions(params),
            primary=self.primary,
            target=self.target,
            variance=self.variance,
            shares=self.shares,
            sees_roles=True,
            droppable=self.droppable,
            shows=self.shows,
            self_conditioned=self.self_conditioned,
            diffusable=self.diffuses,
        )

    def _views_primary(self, modality: Modality) -> bool:
        return modality.is_partial_view and modality.derived_from == self.primary

    def modality_functions(self, params: Any) -> dict[str, ModalityFunctions]:
        """The modalities with these parameters as plain functions, by name."""
        apply: Any = functools.partial(self.apply, {"params": params})
        return {
            name: ModalityFunctions(
                encode=functools.partial(apply, name, method="encode"),
                log_prob=modality.log_prob,
                expected_encoding=functools.partial(apply, name, method="expected_encoding"),
                encoding_variance=functools.partial(apply, name, method="encoding_variance"),
                draw=modality.draw,
                most_likely=modality.most_likely,
                reconstruct=modality.reconstruct,
                pool=modality.pool,
                num_dims=modality.num_dims,
                condition_log_prob=modality.condition_log_prob,
                certain=modality.certain if self._views_primary(modality) else None,
                latent_mask=modality.latent_mask,
                drawn=modality.drawn,
            )
            for name, modality in self.modalities.items()
        }
