"""The rival formulation: a diffusion of each modality, with separate noise and time.

    q(z^i_t | x_i) = N( sqrt(ᾱ_t) E_i(x_i), (1 − ᾱ_t) I )     for each modality i, at time t_i

One network sees all states and all times at once; t_i = 0 means that modality i is given, t_i = T
that nothing is known of it (UniDiffuser: Bao et al. 2023, "One Transformer Fits All Distributions",
section 3). Only the network is shared; the one diffusion space of `ModelFunctions` is compared with
this.
"""

import dataclasses
from collections.abc import Callable, Mapping

import jax

from mmdiffusion_jax.model.functions import (
    ModalityFunctions,
    Prediction,
    check_parts,
    checked_prediction,
)
from mmdiffusion_jax.process.checks import as_array, check_same_shape
from mmdiffusion_jax.process.forward import check_state, root_at
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
        ValueError: `denoise` is no function, `modalities` no dictionary of `ModalityFunctions`, or
            an unknown primary or target.

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
        check_parts(self.denoise, self.modalities, self.primary, self.target)

    def predict(
        self, states: Mapping[str, jax.Array], times: Mapping[str, jax.Array]
    ) -> Prediction:
        """Calls `denoise`; the prediction has the dtype of the primary's state.

        Raises:
            ValueError: a result that is no `Prediction`, or of another shape than the state.
        """
        return checked_prediction(self.denoise(states, times), states[self.primary])

    @property
    def secondaries(self) -> tuple[str, ...]:
        """All but the primary, sorted by name."""
        return tuple(sorted(name for name in self.modalities if name != self.primary))


def separate_state(
    schedule: Schedule, t: jax.Array, encoding: jax.Array, noise: jax.Array
) -> jax.Array:
    """z^i_t = sqrt(ᾱ_t) E_i(x_i) + sqrt(1 − ᾱ_t) ε of one modality, (batch, *latent) each.

    t are (batch,) integers in 0 … T; at 0 the state is the encoding.

    Raises:
        ValueError: shapes that do not agree; `t` out of range (outside jit).

    Example:
        >>> from mmdiffusion_jax import process
        >>> schedule = process.schedule_from_betas([0.75])
        >>> import jax.numpy as jnp
        >>> one, two = jnp.ones((2, 1)), jnp.full((2, 1), 2.0)
        >>> separate_state(schedule, jnp.array([0, 1]), two, 0 * one)[:, 0].tolist()
        [2.0, 1.0]
    """
    t, encoding = check_state(schedule, t, encoding, "encoding", first=0)
    noise = as_array("noise", noise).astype(encoding.dtype)
    check_same_shape("noise", noise, "the encoding", encoding)
    signal = root_at(schedule.alpha_bar, t, encoding)
    return signal * encoding + root_at(schedule.noise_variance, t, encoding) * noise
