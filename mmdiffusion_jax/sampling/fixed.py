"""What a query gives of the diffused modality itself: a part that stays, or where to begin."""

import dataclasses
from collections.abc import Collection, Mapping

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from mmdiffusion_jax import errors
from mmdiffusion_jax.model import (
    Denoiser,
    Diffusion,
    ModelFunctions,
    NoisyState,
    Roles,
    call_modality,
)
from mmdiffusion_jax.process import Process, marginal
from mmdiffusion_jax.process.checks import as_array, expect_number
from mmdiffusion_jax.sampling.plan import Plan, plan


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Fixed:
    """A part of a modality that every sample keeps: inpainting, without a masked modality.

    Attributes:
        values: x (num_samples, …) in data units; outside the mask they do not count.
        mask: booleans that broadcast against `values`, true where they are kept.

    Example:
        >>> left = Fixed(values=jnp.ones((1, 2)), mask=jnp.array([True, False]))
        >>> left.kept_in(jnp.zeros((1, 2))).tolist()
        [[1.0, 0.0]]
    """

    values: ArrayLike
    mask: ArrayLike

    def kept_in(self, samples: jax.Array) -> jax.Array:
        """Samples (num_samples, …) with the fixed part in its place."""
        return jnp.where(
            self.mask, as_array("fixed.values", self.values).astype(samples.dtype), samples
        )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Noised:
    """Given values of a modality, with noise: where its states begin.

    Attributes:
        values: x (num_samples, …) in data units.
        level: t/T of the noise, in (0, 1]. The states begin at the first visited t that is not
            above it; the less noise, the more of the values stays.

    Raises:
        ValueError: a level out of its range.

    Example:
        >>> Noised(jnp.zeros((1, 2)), level=1.5)
        Traceback (most recent call last):
        ValueError: `level`: got 1.5, expected a number in (0, 1]; ...
    """

    values: ArrayLike
    level: float = dataclasses.field(metadata={"static": True})

    def __post_init__(self) -> None:
        expect_number("level", self.level, "a number in (0, 1]", lambda x: 0 < x <= 1)

    def rest_of(self, grid: Plan, process: Process) -> Plan:
        """The grid from the first t that is not above the level.

        Raises:
            ValueError: a level below all visited t.
        """
        # 0.29 · 100 is below 29.
        left = grid.times[grid.times <= self.level * process.num_steps + 1e-6]
        if not left.size:
            lowest = grid.times[-1] / process.num_steps
            raise errors.invalid(
                "level", self.level, f"{lowest:g} or more, the lowest that is visited", "raise it"
            )
        return plan(process, left, grid.variance)

    def noised(
        self, diffusion: Diffusion, grid: Plan, encodings: Mapping[str, jax.Array], noise: jax.Array
    ) -> jax.Array:
        """z_t at the first t of the grid, (batch, *latent).

        `encodings` are those of what is given, in its drift and in the shares of z_0.
        """
        model = diffusion.model
        primary = call_modality(model, model.primary, "encode", self.values, shape=noise.shape)
        t = jnp.full(noise.shape[:1], grid.times[0], jnp.int32)
        parts = dict.fromkeys(model.modalities, jnp.zeros_like(noise)) | dict(encodings)
        z_0 = model.clean_state({**parts, model.primary: primary.astype(noise.dtype)})
        drift = {name: parts[name] for name in diffusion.process.names}
        state = marginal(diffusion.process, t, z_0, drift)
        return state.mean + jnp.sqrt(state.variance) * noise


def check_shares(model: ModelFunctions, unknown: Collection[str]) -> None:
    """Checks that z_0 is known where states begin from given values of the primary.

    Args:
        model: whose z_0 may have shares of several modalities.
        unknown: the modalities that the states carry and that nobody gives.

    Raises:
        ValueError: one of them has a share in z_0.
    """
    shares = model.normalised_shares()
    missing = sorted(name for name in unknown if name in shares)
    if missing:
        raise errors.invalid(
            "begin",
            f"values of {model.primary!r} alone, where z_0 has shares of {sorted(shares)}",
            f"{missing} to be given too",
            "give them, or leave them out of the states by Method(unknown='absent')",
        )


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
    """The denoiser with the certain entries of the primary's encoding in the place of its own.

    Where z_0 = Σ_i a_i E_i has shares of several modalities, their estimates keep theirs.

    Raises:
        ValueError: a primary that cannot say which entries of z_0 a part of it determines.
    """
    encoding = call_modality(model, model.primary, "encode", fixed.values, shape=shape)
    certain = call_modality(model, model.primary, "latent_mask", fixed.mask, shape=shape)

    def estimate(t: jax.Array, z_t: jax.Array, roles: Roles) -> NoisyState:
        state = denoiser(t, z_t, roles)
        z_0, encodings = state.clean.z_0, state.clean.encodings
        estimated = model.primary_encoding(z_0, encodings)
        primary = jnp.where(certain, encoding.astype(z_0.dtype), estimated)
        return state.with_z_0(model.clean_state({**encodings, model.primary: primary}))

    return estimate
