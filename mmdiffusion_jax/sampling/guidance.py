"""Guidance: decorators denoiser → denoiser that pull ẑ_0 toward what is known of other modalities.

All act on ẑ_0, so they go with any network target, any stepper and one another; the outermost is
the last of the list. Without effect they are left out: their results are then the same bit for bit.
"""

import dataclasses
import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from mmdiffusion_jax import errors
from mmdiffusion_jax.process import Schedule, ask_modality, gate, head_of
from mmdiffusion_jax.process.checks import (
    at_least,
    described,
    expect_name,
    expect_names,
    expect_number,
)
from mmdiffusion_jax.process.forward import at, weighted_sum
from mmdiffusion_jax.sampling.denoiser import (
    Carried,
    Decorator,
    Denoiser,
    Question,
    Reading,
)

EVERYWHERE = (0.0, math.inf)
"""The interval of all noise levels."""


def classifier_free_guidance(
    name: str,
    scale: float,
    interval: tuple[float, float] = EVERYWHERE,
    rescale: float = 0.0,
    limit: float = math.inf,
) -> Decorator:
    """ẑ_0 ← ẑ_0(without i) + scale · ( ẑ_0(with i) − ẑ_0(without i) ) (Ho & Salimans 2022).

    "Without" is the same state with modality i taken out of the drift, z_t − w̄_t^(i) E_i, and the
    model told so; E_i is the known encoding, or the model's estimate where i is generated too. It
    costs a second call of the model and asks for training with that modality dropped now and then.

    Args:
        name: a secondary modality the model was trained without at times.
        scale: 1 is no guidance, 0 leaves the modality unused, above 1 overstates it.
        interval: the noise levels σ = sqrt((1 − ᾱ_t) / ᾱ_t) at which to guide, both ends included
            (Kynkäänniemi et al. 2024).
        rescale: φ in [0, 1]; how far the guided ẑ_0 is brought back to the standard deviation it
            had with i, per example (Lin et al. 2024, section 3.4).
        limit: the greatest RMS, per example, of what guidance adds to ẑ_0; more is scaled down.

    Raises:
        ValueError: a scale that is no finite number, an interval that is empty, φ or a limit out of
            range; when sampling, a modality the model lacks or that is the primary, or that it was
            never trained without.

    Example:
        >>> decorate = classifier_free_guidance("label", 2.0, interval=(0.3, 5.0))
    """
    shape = _Shape(interval, rescale, limit)
    expect_number("scale", scale)

    def decorate(denoiser: Denoiser, question: Question) -> Denoiser:
        _check_modality(question, name)
        if not question.model.may_leave_out(name):
            raise ValueError(
                errors.message(
                    "guidance",
                    f"{name!r}, which the model was never trained without",
                    f"one of {sorted(question.model.trained_without or ())}",
                    "train with some dropout of that modality, or guide by its decoder head",
                )
            )
        if not isinstance(scale, jax.core.Tracer) and scale == 1:
            return denoiser

        def read(t: jax.Array, z_t: jax.Array, carried: Carried) -> Reading:
            plain = denoiser(t, z_t, carried)
            encoding = question.known.get(name, plain.clean.encodings[name])
            drift = at(question.weights.marginal[name], t, z_t) * encoding
            absent = jnp.zeros(t.shape, z_t.dtype)
            without = denoiser(t, z_t - drift, {**carried, name: absent}).clean.z_0
            guided = without + scale * (plain.clean.z_0 - without)
            return shape.replace(question.schedule, plain, guided, t)

        return read

    return decorate


def decoder_guidance(
    scales: Mapping[str, float],
    interval: tuple[float, float] = EVERYWHERE,
    rescale: float = 0.0,
    limit: float = math.inf,
) -> Decorator:
    """Guidance by the model's own decoder heads: Bayes' rule for what is known.

    ẑ_0 ← ẑ_0 + Σ_i scale_i G_i / sqrt(ᾱ_t)
    G_i = (1 − ᾱ_t) ∇_z log p_θ(x_i | z_t) − w̄_t^(i) (E_i(x_i) − Ê_i)

    Where z_t carries i, its drift alone does not say all that x_i says: E[ε | z_t, x_i] is
    E[ε | z_t] − sqrt(1 − ᾱ_t) ∇ log p(x_i | z_t), and the known E_i takes the place of Ê_i in the
    shift. With scale 1, exact heads and one known modality this makes conditional sampling exact;
    with several it is exact where they are independent given z_t (`corrections` of `sample` remove
    the rest). After Dhariwal & Nichol 2021, algorithm 2, whose classifier is a network of its own.

    Args:
        scales: {secondary modality whose value is given: scale}; 0 is no guidance, 1 is Bayes'
            rule, above 1 overstates the modality.
        interval: the noise levels σ = sqrt((1 − ᾱ_t) / ᾱ_t) at which to guide.
        rescale: φ in [0, 1]; as in `classifier_free_guidance`.
        limit: as in `classifier_free_guidance`. The gradients of a modality of many dimensions,
            as an image, can be so steep that the steps between states overshoot, and samples end
            in noise; a limit of 0.1 … 0.3 then keeps them.

    Raises:
        ValueError: a scale that is no finite number, an interval that is empty, φ or a limit out of
            range; when sampling, a modality the model lacks or that is the primary, or whose value
            is not given.

    Example:
        >>> decorate = decoder_guidance({"label": 1.0})
    """
    shape = _Shape(interval, rescale, limit)
    for name, scale in expect_names("scales", scales, "scale").items():
        expect_number(f"scales[{name!r}]", scale)
    used = {
        name: scale
        for name, scale in scales.items()
        if isinstance(scale, jax.core.Tracer) or scale != 0
    }

    def decorate(denoiser: Denoiser, question: Question) -> Denoiser:
        for name in scales:
            _check_modality(question, name)
            if name not in question.given:
                raise ValueError(
                    errors.message(
                        "guidance",
                        f"the decoder head of {name!r}, whose value is not given",
                        f"one of the given modalities {sorted(question.given)}",
                        "give it, or use the classifier-free form",
                    )
                )
        if not used:
            return denoiser
        schedule, weights, model = question.schedule, question.weights, question.model
        tables = {name: weights.marginal[name] for name in used}

        def read(t: jax.Array, z_t: jax.Array, carried: Carried) -> Reading:
            def score(z: jax.Array) -> tuple[jax.Array, Reading]:
                reading = denoiser(t, z, carried)
                total = jnp.zeros((), z.dtype)
                for name, scale in used.items():
                    functions = model.modalities[name]
                    wanted = "condition_log_prob" if functions.condition_log_prob else "log_prob"
                    log_prob = ask_modality(
                        model,
                        name,
                        wanted,
                        head_of(reading.prediction, name),
                        at_least(question.given[name], z),
                        shape=z.shape[:1],
                        dtype=z.dtype,
                    )
                    total = total + scale * log_prob.sum()
                return total, reading

            (_, plain), gradient = jax.value_and_grad(score, has_aux=True)(z_t)
            here = gate({name: question.known[name] for name in used}, carried)
            news = {
                name: scale * (here[name] - plain.clean.encodings[name])
                for name, scale in used.items()
            }
            shift = at(schedule.noise_variance, t, z_t) * gradient
            shift = shift - weighted_sum(tables, t, z_t, news)
            guided = plain.clean.z_0 + shift / jnp.sqrt(at(schedule.alpha_bar, t, z_t))
            return shape.replace(schedule, plain, guided, t)

        return read

    return decorate


@dataclasses.dataclass(frozen=True)
class _Shape:
    """How a guided ẑ_0 takes the place of the plain one: limited, rescaled, within an interval."""

    interval: tuple[float, float]
    rescale: float
    limit: float

    def __post_init__(self) -> None:
        expected = "(low, high) with 0 <= low < high, in σ"
        if not isinstance(self.interval, tuple | list) or len(self.interval) != 2:
            raise ValueError(
                errors.message("interval", described(self.interval), expected, "give two numbers")
            )
        low, high = (expect_number("interval", x, expected, lambda _: True) for x in self.interval)
        if not 0 <= low < high:
            raise ValueError(
                errors.message("interval", self.interval, expected, "swap or widen it")
            )
        expect_number("rescale", self.rescale, "a number in [0, 1]", lambda x: 0 <= x <= 1)
        expect_number("limit", self.limit, "a number above 0", lambda x: x > 0, "raise it")

    def replace(
        self, schedule: Schedule, plain: Reading, guided: jax.Array, t: jax.Array
    ) -> Reading:
        """The plain reading with the guided ẑ_0, at times t."""
        z_0 = plain.clean.z_0
        axes = tuple(range(1, z_0.ndim))
        if self.limit < math.inf:
            added = guided - z_0
            size = jnp.sqrt(jnp.mean(added**2, axis=axes, keepdims=True))
            guided = z_0 + added * jnp.minimum(1, self.limit / jnp.maximum(size, 1e-12))
        if self.rescale:
            before, after = (jnp.std(x, axis=axes, keepdims=True) for x in (z_0, guided))
            ratio = before / jnp.maximum(after, 1e-12)
            guided = guided * (self.rescale * ratio + (1 - self.rescale))
        if tuple(self.interval) != EVERYWHERE:
            sigma = jnp.sqrt(1 / at(schedule.snr, t, z_0))
            inside = (sigma >= self.interval[0]) & (sigma <= self.interval[1])
            guided = jnp.where(inside, guided, z_0)
        return plain._replace(clean=plain.clean._replace(z_0=guided))


def _check_modality(question: Question, name: str) -> None:
    expect_name(
        "guidance",
        name,
        question.model.secondaries,
        "only the modalities that drive the process can guide it",
        none="the model has no secondary modality",
    )
