"""Parts of the primary that are known for certain, and stay as they are in every sample."""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from mmdiffusion_jax import errors
from mmdiffusion_jax.model import Denoiser, ModelFunctions, NoisyState, Roles, call_modality
from mmdiffusion_jax.process.checks import as_array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Fixed:
    """A part of the primary that every sample keeps: inpainting, without a masked modality.

    Attributes:
        values: x (num_samples, …) of the primary in data units; outside the mask they do not count.
        mask: booleans that broadcast against `values`, true where they are kept.
    """

    values: jax.Array
    mask: jax.Array

    def kept_in(self, samples: jax.Array) -> jax.Array:
        """Samples (num_samples, …) of the primary with the fixed part in its place."""
        return jnp.where(self.mask, self.values.astype(samples.dtype), samples)


def certain_part(
    model: ModelFunctions, given: Mapping[str, jax.Array], fixed: Fixed | None
) -> Fixed | None:
    """What is fixed by the caller, and what given modalities tell of the primary for certain.

    Raises:
        ValueError: values and masks whose shapes do not go together.
    """
    parts = [] if fixed is None else [fixed]
    for name, x in sorted(given.items()):
        tells = model.modalities[name].certain
        if tells is not None:
            parts.append(Fixed(*tells(x)))
    if not parts:
        return None
    values = as_array("fixed.values", parts[0].values)
    mask = jnp.zeros(values.shape, bool)
    for part in reversed(parts):
        of_part = as_array("fixed.mask", part.mask).astype(bool)
        if not _broadcasts(of_part.shape, values.shape):
            raise errors.invalid(
                "fixed.mask",
                f"shape {of_part.shape}",
                f"one that broadcasts to {values.shape}",
                "give it the axes of the values",
            )
        values = jnp.where(of_part, part.values, values)
        mask = mask | of_part
    return Fixed(values, mask)


def _broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    pairs = zip(reversed(shape), reversed(to), strict=False)
    return len(shape) <= len(to) and all(one in (1, other) for one, other in pairs)


def with_fixed(
    denoiser: Denoiser, model: ModelFunctions, fixed: Fixed, shape: tuple[int, ...]
) -> Denoiser:
    """The denoiser with the entries of ẑ_0 that are certain in the place of its own.

    Raises:
        ValueError: a primary that cannot say which entries of z_0 a part of it determines.
    """
    encoding = call_modality(model, model.primary, "encode", fixed.values, shape=shape)
    certain = call_modality(model, model.primary, "latent_mask", fixed.mask, shape=shape)

    def estimate(t: jax.Array, z_t: jax.Array, roles: Roles) -> NoisyState:
        state = denoiser(t, z_t, roles)
        z_0 = state.clean.z_0
        return state.with_z_0(jnp.where(certain, encoding.astype(z_0.dtype), z_0))

    return estimate
