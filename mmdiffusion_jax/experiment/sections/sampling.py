"""How samples are drawn, as configs and launchers say it."""

import dataclasses
import math
from collections.abc import Collection, Mapping

import numpy as np

from mmdiffusion_jax import errors, process, ranges, sampling
from mmdiffusion_jax.experiment.sections.choices import Choice, complete, make
from mmdiffusion_jax.experiment.sections.reading import under

THRESHOLDS = ("auto", "none", "static", "dynamic")
"""How ẑ_0 is kept within [−1, 1]; "auto" is "static" where the clean state lies there."""


@dataclasses.dataclass(frozen=True)
class SamplingOptions:
    """How samples are drawn; the terms are those of `sampling.sample`.

    Attributes:
        sampler: {"kind": a name of `sampling.SAMPLERS`, **its fields}, the name alone, or the name
            with fields, such as "ddim(eta=0.5)".
        num_steps: how many of the t in 1 … T are visited; None visits all.
        grid: which t are visited, a name of `sampling.GRIDS`.
        guidance: {secondary: scale}, classifier-free; 1 is none.
        decoder_guidance: {secondary: scale}, by the model's own heads, where it is given; 0 is
            none. Left out, it is 1 for what is given and not shown to the network: Bayes' rule.
        autoguidance: the scale of guidance by the difference from a weaker model, where a query
            names one; 1 for none.
        guidance_interval: (low, high) in σ; empty for all noise levels.
        guidance_rescale: φ in [0, 1].
        guidance_limit: the greatest RMS of the change of ẑ_0 by guidance; 0 for none.
        threshold: of ẑ_0, "none", "static" (to [−1, 1]), "dynamic", or "auto": "static" where the
            encodings that make up z_0 lie within [−1, 1], as an image's does, and "none" where they
            do not, as those of latents, embeddings or sound.
        estimate: of an unknown modality's encoding, "mean", "draw" or "moments".
        unknown: how unknown modalities enter the states: "absent" (left out), "estimated" (by the
            heads), or "auto".
        order: what is generated, stage after stage, as `sampling.Method` has it; empty for the
            modalities' own.
        shown_levels: {modality: noise levels s/T} at which a given modality is shown, as
            `sampling.Method` has them.
        read: whether the heads give the "most_likely" values in the end, or a "draw".
        read_noise: the greatest σ = sqrt((1 − ᾱ_t) / ᾱ_t) at which heads predict from states of a
            given primary; 0 for all t that are visited. At high noise the heads of masks or audio
            predict averages, and pooling these with the rest blurs the values.
        corrections: Langevin steps at each state.
        batch_size: how many are drawn at once; bounds the memory.

    Raises:
        ValueError: an unknown name, or a number out of its range.
    """

    sampler: Choice = dataclasses.field(default="ancestral", metadata={"table": sampling.SAMPLERS})
    num_steps: int | None = None
    grid: str = "karras"
    guidance: Mapping[str, float] = dataclasses.field(default_factory=dict)
    decoder_guidance: Mapping[str, float] = dataclasses.field(default_factory=dict)
    autoguidance: float = 1.0
    guidance_interval: tuple[float, ...] = ()
    guidance_rescale: float = 0.0
    guidance_limit: float = 0.0
    threshold: str = "auto"
    estimate: str = "mean"
    unknown: str = "auto"
    order: tuple[str, ...] = ()
    shown_levels: Mapping[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)
    read: str = "most_likely"
    read_noise: float = 0.0
    corrections: int = 0
    batch_size: int = 500

    def __post_init__(self) -> None:
        sampler = complete("sampling.sampler", self.sampler, sampling.SAMPLERS)
        object.__setattr__(self, "sampler", sampler)
        choices: tuple[tuple[str, Collection[str]], ...] = (
            ("grid", sampling.GRIDS),
            ("threshold", THRESHOLDS),
            ("estimate", sampling.ESTIMATES),
            ("unknown", sampling.UNKNOWNS),
            ("read", sampling.READS),
        )
        for name, known in choices:
            ranges.check_one_of(f"sampling.{name}", getattr(self, name), known)
        for name, least in (("num_steps", 1), ("batch_size", 1), ("corrections", 0)):
            if getattr(self, name) is not None or name != "num_steps":
                ranges.check_whole(f"sampling.{name}", getattr(self, name), least)
        ranges.check_real("sampling.guidance_rescale", self.guidance_rescale, 0, 1)
        ranges.check_real("sampling.autoguidance", self.autoguidance)
        for name in ("read_noise", "guidance_limit"):
            ranges.check_real(f"sampling.{name}", getattr(self, name), 0)
        for name in ("guidance", "decoder_guidance"):
            for modality, scale in getattr(self, name).items():
                ranges.check_real(f"sampling.{name}.{modality}", scale)
        self._check_interval()
        self.stepper()
        sampling.parse_order(self.order)
        for name, levels in self.shown_levels.items():
            for level in levels:
                ranges.check_real(f"sampling.shown_levels.{name}", level, 0, 1)
        self.decorators(self.decoder_guidance, (), ())

    def _check_interval(self) -> None:
        ends = self.guidance_interval
        if not ends:
            return
        is_pair = isinstance(ends, tuple | list) and len(ends) == 2
        if is_pair and all(map(ranges.is_real, ends)) and 0 <= ends[0] < ends[1]:
            return
        raise errors.invalid(
            "sampling.guidance_interval",
            repr(ends),
            "(low, high) with 0 ≤ low < high, or empty for all noise levels",
            "give two numbers",
        )

    def stepper(self) -> sampling.Stepper:
        """The stepper these options name."""
        with under("sampling.sampler"):
            return make(self.sampler, sampling.SAMPLERS)

    def times(self, schedule: process.Schedule) -> np.ndarray:
        """The grid these options name.

        Raises:
            ValueError: more steps than the schedule has.
        """
        count = schedule.num_steps if self.num_steps is None else self.num_steps
        return sampling.GRIDS[self.grid](schedule, count)

    def times_given_primary(self, schedule: process.Schedule) -> np.ndarray:
        """The t of the grid at which heads predict from noisy states of a given primary.

        Raises:
            ValueError: more steps than the schedule has, or no t with σ up to `read_noise`.
        """
        times = self.times(schedule)
        if not self.read_noise:
            return times
        tables = schedule.noise_variance, schedule.alpha_bar
        noise, signal = (np.asarray(table, np.float64)[times] for table in tables)
        sigma = np.sqrt(noise / signal)
        if sigma[-1] > self.read_noise:
            raise errors.invalid(
                "sampling.read_noise",
                self.read_noise,
                f"{sigma[-1]:.3g}, the least σ that is visited, or more",
                "raise it",
            )
        return times[sigma <= self.read_noise]

    def threshold_of(self, is_bounded: bool) -> str:
        """The threshold, "none", "static" or "dynamic", of z_0 within [−1, 1] or not.

        Example:
            >>> SamplingOptions().threshold_of(is_bounded=False)
            'none'
            >>> SamplingOptions(threshold="static").threshold_of(is_bounded=False)
            'static'
        """
        if self.threshold == "auto":
            return "static" if is_bounded else "none"
        return self.threshold

    def autoguidance_options(self) -> tuple[float, tuple[float, float], float, float]:
        """The scale, and where and how far `sampling.autoguidance` acts."""
        return self.autoguidance, *self._limits()

    def _limits(self) -> tuple[tuple[float, float], float, float]:
        low, high = self.guidance_interval or sampling.EVERYWHERE
        return (low, high), self.guidance_rescale, self.guidance_limit or math.inf

    def decorators(
        self, given: Collection[str], carried: Collection[str], bounded: Collection[str]
    ) -> list[sampling.Decorator]:
        """Guidance and thresholding, innermost first.

        Args:
            given: the modalities whose values are given; guidance by the heads of others is left
                out.
            carried: those of them that the network is not shown.
            bounded: the modalities that keep z_0 within [−1, 1] where they are diffused.
        """
        limits = self._limits()
        # Bayes' term of what only states carry is no amplification: the interval and the rescaling
        # are of what is asked for by name.
        of_bayes = sampling.EVERYWHERE, 0.0, limits[-1]
        decorators = [
            sampling.classifier_free_guidance(name, scale, *limits)
            for name, scale in sorted(self.guidance.items())
        ]
        scales = {**dict.fromkeys(carried, 1.0), **self.decoder_guidance}
        by_limits: dict[tuple[tuple[float, float], float, float], dict[str, float]] = {}
        for name in sorted(set(scales) & set(given)):
            alike = by_limits.setdefault(limits if name in self.decoder_guidance else of_bayes, {})
            alike[name] = scales[name]
        decorators += [sampling.decoder_guidance(heads, *of) for of, heads in by_limits.items()]
        threshold = self.threshold_of(bool(bounded))
        if threshold == "static":
            decorators.append(sampling.static_threshold(names=bounded))
        elif threshold == "dynamic":
            decorators.append(sampling.dynamic_threshold(names=bounded))
        return decorators
