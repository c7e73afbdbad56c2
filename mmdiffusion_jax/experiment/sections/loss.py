"""The training loss, and how training images are augmented."""

import dataclasses
from collections.abc import Callable, Mapping

import jax

from mmdiffusion_jax import errors, objective, process, ranges
from mmdiffusion_jax.experiment.sections.choices import Choice, complete, make
from mmdiffusion_jax.experiment.sections.reading import under

LOSSES = ("simple", "bound")
"""The simple loss, or the variational bound."""

WEIGHTINGS: Mapping[str, Callable[..., Callable[[jax.Array], jax.Array]]] = {
    "auto": lambda: objective.no_weighting,
    "none": lambda: objective.no_weighting,
    "min_snr": objective.min_snr_weighting,
    "p2": objective.p2_weighting,
    "v": objective.v_weighting,
    "sigmoid": objective.sigmoid_weighting,
}
"""The weightings of the noise's error by the names that configs know them by."""


@dataclasses.dataclass(frozen=True)
class LossOptions:
    """The training loss.

    Attributes:
        kind: one of `LOSSES`; the terms below are those of "simple".
        scales: {modality: λ of its term}; 1 where left out.
        dropout: {modality: the share of examples whose state leaves it out, or in which it is
            hidden from the network although it is known}. Where left out, it is 0.1 of what tasks
            know.
        tasks: {"asked, … | known, …": rate}, such as {"image, label": 0.5, "image | label": 0.5}.
            Left out, `default_tasks` makes them of the modalities.
        shown_noise: {modality: the share of examples, among those that know it, in which the
            network is shown it at a noise level drawn from all}.
        believed: the modalities that tasks know and that some examples lack: the network is shown
            what it draws of them itself, as `objective.LossOptions` says. For labels of few images.
        weighting: of the noise's error by t, {"kind": a name in `WEIGHTINGS`, **its parameters}, or
            the name alone. "auto" is "v" where tasks condition and the network predicts "v" or
            "z_0", else "none": of a network that predicts the noise, "v" would weigh the last steps
            by a factor of thousands.
        timesteps: how t is drawn, one of `process.TIMESTEP_DRAWS`.
        logit_normal: (mean, standard deviation) of log(σ_t / sqrt(ᾱ_t)) by which t is drawn instead
            (`process.logit_normal_timesteps`); empty for `timesteps`.
        pure_noise: the share of examples, among those that know something, that are trained at
            t = T, where one call answers with a mean.
        self_conditioning: the share of steps in which the network sees its own first estimates of
            `config.self_conditioned`.

    Raises:
        ValueError: an unknown name, or a number out of its range.
    """

    kind: str = "simple"
    scales: Mapping[str, float] = dataclasses.field(default_factory=dict)
    dropout: Mapping[str, float] = dataclasses.field(default_factory=dict)
    tasks: Mapping[str, float] = dataclasses.field(default_factory=dict)
    shown_noise: Mapping[str, float] = dataclasses.field(default_factory=dict)
    believed: tuple[str, ...] = ()
    weighting: Choice = dataclasses.field(default="auto", metadata={"table": WEIGHTINGS})
    timesteps: str = "uniform"
    logit_normal: tuple[float, ...] = ()
    pure_noise: float = 0.0
    self_conditioning: float = 0.5

    def __post_init__(self) -> None:
        for key, known in (("kind", LOSSES), ("timesteps", tuple(process.TIMESTEP_DRAWS))):
            ranges.check_one_of(f"loss.{key}", getattr(self, key), known)
        weighting = complete("loss.weighting", self.weighting, WEIGHTINGS)
        object.__setattr__(self, "weighting", weighting)
        for name, scale in self.scales.items():
            ranges.check_real(f"loss.scales.{name}", scale, 0)
        for section in ("dropout", "shown_noise"):
            for name, rate in getattr(self, section).items():
                ranges.check_real(f"loss.{section}.{name}", rate, 0, 1)
        for task, rate in self.tasks.items():
            ranges.check_real(f"loss.tasks.{task}", rate, 0)
        if self.logit_normal:
            if len(self.logit_normal) != 2:
                raise errors.invalid(
                    "loss.logit_normal", self.logit_normal, "(mean, std) or ()", "give two"
                )
            ranges.check_real("loss.logit_normal[0]", self.logit_normal[0])
            ranges.check_real("loss.logit_normal[1]", self.logit_normal[1], 0, ends="()")
        for key in ("pure_noise", "self_conditioning"):
            ranges.check_real(f"loss.{key}", getattr(self, key), 0, 1)

    def of_simple_loss(self) -> objective.LossOptions:
        """The options of `objective.simple_loss`."""
        return objective.LossOptions(
            self.scales,
            self.make_weighting(),
            self.dropout,
            self.timesteps,
            tasks=self.tasks or None,
            shown_noise=self.shown_noise,
            believed=self.believed,
            pure_noise=self.pure_noise,
            self_conditioning=self.self_conditioning,
            logit_normal=(self.logit_normal[0], self.logit_normal[1])
            if self.logit_normal
            else None,
        )

    def make_weighting(self) -> Callable[[jax.Array], jax.Array]:
        """The weighting: SNR (batch,) → weight of the noise's error (batch,)."""
        with under("loss.weighting"):
            return make(self.weighting, WEIGHTINGS)


@dataclasses.dataclass(frozen=True)
class PredictOptions:
    """What the formulation "predict" predicts, and from what.

    Attributes:
        given: the modalities that the network sees.
        target: the predicted modality.
    """

    given: tuple[str, ...] = ()
    target: str = ""


@dataclasses.dataclass(frozen=True)
class AugmentationOptions:
    """Black squares in training images.

    Attributes:
        rate: the share of images that get them.
        num_squares: squares an image.
        square_size: their side, in pixels.

    Raises:
        ValueError: a number out of its range.
    """

    rate: float = 0.0
    num_squares: int = 1
    square_size: int = 1

    def __post_init__(self) -> None:
        ranges.check_real("augmentation.rate", self.rate, 0, 1)
        ranges.check_whole("augmentation.num_squares", self.num_squares, 1)
        ranges.check_whole("augmentation.square_size", self.square_size, 1)
