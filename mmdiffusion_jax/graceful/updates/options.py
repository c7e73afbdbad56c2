"""What an update keeps of what was deployed, and how firmly."""

import dataclasses

from mmdiffusion_jax import errors, ranges
from mmdiffusion_jax.graceful.methods.decisions import DISTANCES

ENCODERS = ("compatible", "kept", "free")
"""What becomes of the encoders: trained to go with the stored latents, left as they are, or trained
without a look at the old ones."""


@dataclasses.dataclass(frozen=True)
class UpdateOptions:
    """How a successor is held to the model it replaces; a weight of 0 lets go.

    Attributes:
        encoders: one of `ENCODERS`.
        heads: weight of what the deployed heads lose on the successor's latents.
        denoiser: weight of the squared error of the deployed denoiser on them.
        latents: weight of ‖E_new(x) − E_old(x)‖² / dims, where the encoders are trained to be
            compatible. What reads a latent through a denoiser sees every coordinate of it, and this
            term has no noise of t in its gradient.
        align: steps in which such encoders alone are fitted to the deployed ones before training.
        mix: share of the examples whose encodings are the deployed encoders' where the successor
            learns its own task (MixBCT), so that its denoiser reads what is stored as well.
        flips: weight of focal distillation for every categorical modality.
        alpha: of focal distillation, for every decision.
        beta: of focal distillation, added where the deployed model is right.
        distance: of focal distillation, "squared" or "kl".
        temperature: of "kl".
        warm_start: begin with the deployed parameters, wherever name and shape are the same;
            otherwise encoders alone do, where they are to be compatible.

    Raises:
        ValueError: an unknown choice, a negative weight or a temperature that is not positive.

    Example:
        >>> UpdateOptions(encoders="frozen")
        Traceback (most recent call last):
        ...
        ValueError: `graceful.encoders`: got 'frozen', expected one of ...
    """

    encoders: str = "compatible"
    heads: float = 1.0
    denoiser: float = 1.0
    latents: float = 1.0
    align: int = 500
    mix: float = 0.3
    flips: float = 0.01
    alpha: float = 0.0
    beta: float = 1.0
    distance: str = "squared"
    temperature: float = 1.0
    warm_start: bool = False

    def __post_init__(self) -> None:
        for name, known in (("encoders", ENCODERS), ("distance", DISTANCES)):
            if getattr(self, name) not in known:
                raise errors.unknown(f"graceful.{name}", getattr(self, name), known)
        for name in ("heads", "denoiser", "latents", "flips", "alpha", "beta"):
            ranges.check_real(f"graceful.{name}", getattr(self, name), 0)
        ranges.check_whole("graceful.align", self.align)
        ranges.check_real("graceful.mix", self.mix, 0, 1)
        ranges.check_real("graceful.temperature", self.temperature, 0, ends="()")
