"""One figure: a value with the number of examples it counts, or the reason for its absence."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
from absl import logging

from mmdiffusion_jax import errors
from mmdiffusion_jax.modalities import MODALITIES, Measure, Networks

HIGHER_IS_BETTER: Mapping[str, bool | None] = {
    "agreement": True,
    "frechet": False,
    "frechet_ratio": False,
    "frechet_within_class": False,
    "precision": True,
    "recall": True,
} | {name: way for kind in MODALITIES.values() for name, way in kind.figures.items()}
"""Whether higher is better, by the last part of a figure's name; None where neither way is."""


@dataclasses.dataclass(frozen=True)
class Figure:
    """A figure about a trained model.

    Attributes:
        name: such as `label_given_image/accuracy`.
        value: None where there is none.
        num_examples: the test examples or samples that it counts.
        reason: why there is no value; "" where there is one.

    Raises:
        ValueError: neither a value nor a reason, or both.

    Example:
        >>> Figure("bits_per_dim", 1.25, 360).line(14)
        'bits_per_dim    1.2500  (360)'
        >>> Figure("bits_per_dim", reason="no test example has a label").line(14)
        'bits_per_dim    left out: no test example has a label'
    """

    name: str
    value: float | None = None
    num_examples: int = 0
    reason: str = ""

    def __post_init__(self) -> None:
        if (self.value is None) != bool(self.reason):
            raise errors.invalid(
                "reason",
                repr(self.reason),
                "a reason where there is no value, and only there",
                "give one of both",
            )

    def line(self, width: int) -> str:
        """The figure in one line: its name padded to a width, value, number of examples."""
        if self.value is None:
            return f"{self.name:<{width}}  left out: {self.reason}"
        return f"{self.name:<{width}}  {self.value:.4f}  ({self.num_examples})"


def figures_of(
    names: Iterable[str], num_examples: int, compute: Callable[[], Iterable[float] | float]
) -> list[Figure]:
    """Figures that are computed together, or the one reason why they have no value.

    Args:
        names: of the figures.
        num_examples: that they count; with none, nothing is computed.
        compute: gives the values in the order of the names, or the one value.

    Returns:
        A figure for each name. A ValueError or a value that is no number becomes the reason.

    Example:
        >>> [figure.value for figure in figures_of(["mean"], 2, lambda: 0.5)]
        [0.5]
        >>> [figure.reason for figure in figures_of(["mean"], 0, lambda: 1 / 0)]
        ['no example has all that it takes']
    """
    names = tuple(names)
    if not num_examples:
        return left_out(names, "no example has all that it takes")
    try:
        values = compute()
    except ValueError as error:
        logging.debug("%s cannot be computed.", ", ".join(names), exc_info=True)
        return left_out(names, str(error))
    values = (values,) if isinstance(values, float) else tuple(values)
    return [
        Figure(name, reason="it is not a number")
        if math.isnan(value)
        else Figure(name, float(value), num_examples)
        for name, value in zip(names, values, strict=True)
    ]


def measured(
    prefix: str, measures: Iterable[Measure], x: np.ndarray, other: np.ndarray, networks: Networks
) -> Iterator[Figure]:
    """The figures `<prefix>/<name>` that measure generated values x (n, …) against others."""
    for measure in measures:
        names = [f"{prefix}/{name}" for name in measure.names]
        yield from figures_of(names, len(x), functools.partial(measure.compute, x, other, networks))


def left_out(names: Iterable[str], reason: str) -> list[Figure]:
    """Figures without a value, for one reason.

    Example:
        >>> left_out(["joint/frechet"], "there is one image")[0].value is None
        True
    """
    return [Figure(name, reason=reason.rstrip(".")) for name in names]


def counts_of(figures: Iterable[Figure]) -> dict[str, int]:
    """{name: how many examples it counts} of the figures that have a value.

    Example:
        >>> counts_of([Figure("a", 1.0, 3), Figure("b", reason="none")])
        {'a': 3}
    """
    return {figure.name: figure.num_examples for figure in figures if figure.value is not None}


def values_of(figures: Iterable[Figure]) -> dict[str, float]:
    """{name: value} of the figures that have one.

    Example:
        >>> values_of([Figure("a", 1.0, 3), Figure("b", reason="none")])
        {'a': 1.0}
    """
    return {figure.name: figure.value for figure in figures if figure.value is not None}
