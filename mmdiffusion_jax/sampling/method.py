"""How to sample, and the checks of the shape and of the given values."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.typing import ArrayLike

from mmdiffusion_jax import errors
from mmdiffusion_jax.model import Modal
from mmdiffusion_jax.process.checks import (
    as_array,
    described,
    expect_callable,
    expect_name,
    expect_names,
    expect_number,
    expect_whole,
)
from mmdiffusion_jax.ranges import is_whole
from mmdiffusion_jax.sampling.order import parse_order
from mmdiffusion_jax.sampling.query import ESTIMATES, Decorator
from mmdiffusion_jax.sampling.steppers.multistep import Stepper
from mmdiffusion_jax.sampling.steppers.names import as_stepper

UNKNOWNS = ("auto", "absent", "estimated")
"""What the states carry of a secondary modality that is generated."""

READS = ("most_likely", "draw")
"""How the returned values follow from the heads."""


@dataclasses.dataclass(frozen=True, eq=False)
class Method:
    """How to sample.

    It is hashed by its identity, so it may be a static argument of `jax.jit`, which compiles once
    for each `Method` that is made.

    Attributes:
        stepper: how to go from state to state, or a name of `SAMPLERS`; left out, `Ancestral()`.
        times: the visited t's, strictly decreasing; left out, T, T − 1, …, 1.
        decorators: guidance and thresholding, the first innermost. Left out, `decoder_guidance()`:
            Bayes' rule by the head of every given secondary that the network is not shown. Any list
            takes the place of that, also one of a threshold alone: to keep it, put it in front, as
            in [decoder_guidance(), static_threshold()].
        order: what is generated, stage after stage, such as ["label", "image"], where the label is
            known to the image, or ["image, label"], both together. Left out, by
            `ModalityFunctions.drawn`; see `stages_of`.
        estimate: of the encoding of a modality that is generated: "mean" under its head, "draw"
            from it, or "moments", the mean with its variance added to the noise of a stochastic
            step of order 1.
        unknown: "estimated" lets the states carry the current estimates of modalities that are
            generated, refined from t to t; "absent" does not, so that no head sees its previous
            estimate in the state. "auto" is "estimated" while the primary is generated; with a
            given primary, where an early wrong estimate would confirm itself, it is "absent" for
            the modalities that training dropped from some states.
        shown_levels: {name: noise levels s/T in [0, 1]} at which a given modality is shown. The
            primary's state is drawn with the first, and a stage of heads alone pools them all, as
            many calls: where few examples were labelled, a head that sees a clean image knows them
            by heart, and one that sees noise does not. Left out, it is shown without noise.
        read: the returned values: "most_likely" under the heads at the last t (or under the pooled
            heads), or a "draw" from the heads at the last t.
        corrections: Langevin steps at each t after it is reached (Song & Ermon 2019),
            z ← z − δ σ ε̂(z + κ σ ξ) + sqrt(2δ) σ ξ, δ = ½, ξ ~ N(0, I), with ε̂ of the guided
            estimate; one call of the model each. Without κ the variance would settle too high by
            1 / (1 − δ/2), 4/3, where the data are points. κ = (sqrt(2δ) − sqrt(2δ − δ²)) / δ = 0.27
            lets Gaussian data of any variance keep theirs to half a percent. Less noise,
            sqrt(2δ − δ²) σ ξ and no κ, is right for points but loses a share δ/2 of the variance of
            broad data. On N(0, 1), points and a mixture, at 20 states and 100, a δ of ¼ keeps the
            variance no better, and moves half as far. Only the law at one t is kept: with few
            states the steps between them have errors that corrections lessen, not remove.

    Raises:
        ValueError: an unknown name, or a value of another kind.

    Example:
        >>> Method(stepper="ddim", times=[100, 50, 1]).read
        'most_likely'
    """

    stepper: Stepper | str | None = None
    times: ArrayLike | None = None
    decorators: Sequence[Decorator] | None = None
    order: Sequence[str] | None = None
    estimate: str = "mean"
    unknown: str = "auto"
    shown_levels: Mapping[str, Sequence[float]] = dataclasses.field(default_factory=dict)
    read: str = "most_likely"
    corrections: int = 0

    def __post_init__(self) -> None:
        for argument, choices in (("estimate", ESTIMATES), ("unknown", UNKNOWNS), ("read", READS)):
            expect_name(argument, getattr(self, argument), choices)
        expect_whole("corrections", self.corrections, 0)
        for name, levels in expect_names("shown_levels", self.shown_levels, "levels").items():
            for level in levels:
                expected = "numbers in [0, 1]"
                expect_number(f"shown_levels[{name!r}]", level, expected, lambda x: 0 <= x <= 1)
        if self.order is not None:
            parse_order(self.order)
        decorators = () if self.decorators is None else self.decorators
        if not isinstance(decorators, Sequence) or isinstance(decorators, str):
            raise errors.invalid(
                "decorators",
                described(self.decorators),
                "a list of decorators",
                "put it in a list, such as [sampling.static_threshold()]",
            )
        for decorate in decorators:
            expect_callable("decorators", decorate, "such as sampling.static_threshold()")
        stepper = as_stepper(self.stepper)
        if self.estimate == "moments" and not (stepper.stochastic and stepper.order == 1):
            raise errors.invalid(
                "estimate",
                f"'moments' with {stepper}",
                "a stochastic stepper of order 1, whose noise lacks that variance",
                "use 'mean', or a stepper such as Ancestral()",
            )


def as_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """The shape of the samples, (num_samples, *latent), as a tuple.

    Raises:
        ValueError: anything but whole numbers of at least 1.

    Example:
        >>> as_shape([4, 2])
        (4, 2)
    """
    sizes = shape.tolist() if isinstance(shape, np.ndarray) else shape
    if (
        not isinstance(sizes, Sequence)
        or not sizes
        or not all(is_whole(x) and x > 0 for x in sizes)
    ):
        raise errors.invalid(
            "shape",
            described(shape),
            "(num_samples, *latent), whole numbers of at least 1",
            "draw one sample or more",
        )
    return tuple(map(int, sizes))


def check_given(
    model: Modal, shape: tuple[int, ...], given: Mapping[str, Any] | None
) -> dict[str, jax.Array]:
    """The given values {name: x (num_samples, …)} as arrays, once they are checked.

    Raises:
        ValueError: an unknown modality, another batch size, or nothing left to generate.
    """
    arrays = {}
    given = {} if given is None else given
    for name, x in expect_names("given", given, "x (num_samples, …)").items():
        expect_name("given", name, model.modalities)
        arrays[name] = as_array(f"given[{name!r}]", x, "an array (num_samples, …)")
        if arrays[name].shape[:1] != shape[:1]:
            raise errors.invalid(
                f"given[{name!r}]",
                f"shape {arrays[name].shape}",
                f"{shape[0]} examples, as many as the samples",
                "give one value for each sample",
            )
    if set(given) == set(model.modalities):
        raise errors.invalid(
            "given",
            f"all of {sorted(given)}",
            "at least one modality left to generate",
            "leave one out",
        )
    return arrays
