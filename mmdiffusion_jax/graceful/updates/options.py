"""The weights of an update: how closely a successor is held to the deployed model."""

import dataclasses

from mmdiffusion_jax import ranges
from mmdiffusion_jax.graceful.methods.decisions import DISTANCES

ENCODERS = ("compatible", "kept", "free")
"""Encoders become compatible with stored latents, are kept as deployed, or are trained freely."""


@dataclasses.dataclass(frozen=True)
class UpdateOptions:
    """How closely a successor is held to the model it replaces; a weight of 0 drops its term.

    Attributes:
        encoders: one of `ENCODERS`.
        heads: weight of the loss of the deployed heads on the successor's latents.
        denoiser: weight of the squared error of the deployed denoiser on them.
        latents: weight of ‖E_new(x) − E_old(x)‖² / dims, where the encoders are trained to be
            compatible. It constrains every coordinate, and its gradient has no noise of t.
        align: steps in which such encoders alone are fitted to the deployed ones before training.
        mix: share of the examples that the deployed encoders encode in the successor's training
            loss (MixBCT), so that its denoiser serves stored latents as well.
        flips: weight of focal distillation for every categorical modality.
        alpha: of focal distillation, for every decision.
        beta: of focal distillation, added where the deployed model is right.
        distance: of focal distillation, "squared" or "kl".
        temperature: of "kl".
        warm_start: whether all parameters of equal name and shape start from the deployed ones;
            else only those of encoders do, unless these are trained freely.

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
            ranges.check_one_of(f"graceful.{name}", getattr(self, name), known)
        for name in ("heads", "denoiser", "latents", "flips", "alpha", "beta"):
            ranges.check_real(f"graceful.{name}", getattr(self, name), 0)
        ranges.check_whole("graceful.align", self.align)
        ranges.check_real("graceful.mix", self.mix, 0, 1)
        ranges.check_real("graceful.temperature", self.temperature, 0, ends="()")
