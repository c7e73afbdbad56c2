"""The rival formulation: every modality diffuses on its own, with its own noise and its own time.

    q(z^i_t | x_i) = N( sqrt(ᾱ_t) E_i(x_i), (1 − ᾱ_t) I )     for each modality i, at a t of its own

One network sees all states and all times at once; a time of 0 means that the modality is known, a
time of T that nothing is known of it (UniDiffuser: Bao et al. 2023, "One Transformer Fits All
Distributions", section 3). Nothing is shared but the network: this is what the one diffusion space
of `ModelFunctions` is to be measured against.
"""

import dataclasses
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from mmdiffusion_jax import errors
from mmdiffusion_jax.process.contract import ModalityFunctions, Prediction
from mmdiffusion_jax.process.forward import at
from mmdiffusion_jax.process.parameterisation import TARGETS
from mmdiffusion_jax.process.schedules import Schedule


@dataclasses.dataclass(frozen=True)
class SeparateFunctions:
    """A model of separately diffusing modalities as plain functions.

    Attributes:
        denoise: ({name: z^i (batch, *latent)}, {name: t_i (batch,)}) → Prediction, whose value is
            about the primary's state and whose heads are about the others' values.
        modalities: {name: its functions}; the secondary ones have `expected_encoding`.
        primary: the modality whose noise the network predicts.
        target: what `Prediction.value` is: "noise", "z_0" or "v" of the primary's state.

    Raises:
        ValueError: an unknown primary or target.

    Example:
        >>> image = ModalityFunctions(encode=lambda x: x, log_prob=lambda mean, x: mean[:, 0])
        >>> model = SeparateFunctions(
        ...     denoise=lambda states, times: Prediction(states["image"], {}),
        ...     modalities={"image": image},
        ...     primary="image",
        ... )
        >>> model.secondaries
        ()
    """

    denoise: Callable[[Mapping[str, jax.Array], Mapping[str, jax.Array]], Prediction]
    modalities: Mapping[str, ModalityFunctions]
    primary: str
    target: str = "noise"

    def __post_init__(self) -> None:
        if self.primary not in self.modalities:
            raise ValueError(errors.unknown("primary", self.primary, self.modalities))
        if self.target not in TARGETS:
            raise ValueError(errors.unknown("target", self.target, TARGETS))

    @property
    def secondaries(self) -> tuple[str, ...]:
        """All but the primary, sorted by name."""
        return tuple(sorted(name for name in self.modalities if name != self.primary))


def separate_state(
    schedule: Schedule, t: jax.Array, encoding: jax.Array, noise: jax.Array
) -> jax.Array:
    """z^i_t = sqrt(ᾱ_t) E_i(x_i) + sqrt(1 − ᾱ_t) ε of one modality.

    Args:
        schedule: the noise schedule.
        t: (batch,) integers in 0 … T; at 0 the state is the encoding.
        encoding: (batch, *latent).
        noise: (batch, *latent).

    Returns:
        (batch, *latent).

    Example:
        >>> from mmdiffusion_jax import process
        >>> schedule = process.schedule_from_betas([0.75])
        >>> one, two = jnp.ones((2, 1)), jnp.full((2, 1), 2.0)
        >>> separate_state(schedule, jnp.array([0, 1]), two, 0 * one)[:, 0].tolist()
        [2.0, 1.0]
    """
    signal = jnp.sqrt(at(schedule.alpha_bar, t, encoding))
    return signal * encoding + jnp.sqrt(at(schedule.noise_variance, t, encoding)) * noise
