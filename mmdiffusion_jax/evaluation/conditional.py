"""Figures of values that were generated from one given modality."""

import functools
from collections.abc import Iterator, Mapping

import numpy as np

from mmdiffusion_jax import data
from mmdiffusion_jax.evaluation.figure import Figure, figures_of, left_out, measured
from mmdiffusion_jax.evaluation.real import RealData

Values = Mapping[str, np.ndarray]


def conditional_figures(
    real: RealData, source: str, samples: Values, truth: Values, way: str = ""
) -> Iterator[Figure]:
    """Figures of all modalities that were generated from one given modality.

    Args:
        real: real data, their features and judges.
        source: the given modality.
        samples: {name: (n, …)}, the generated modalities.
        truth: {column: (n, …)}, the true values, with masks `<name>_present`; examples without a
            true value do not count.
        way: how they were generated, if it is not how the config says: it comes before the name of
            a figure, `<name>_given_<source>/<way>/<figure>`.

    Yields:
        `<name>_given_<source>/<figure>`: `Modality.measures` of each generated modality and the
        truth; the `agreement` of the judges of modalities that show labels (of several labels
        `<name>_given_<source>/<label>/agreement`); and `Modality.measures_of_primary` of the
        primary and the given one. Where there is none of these, `<name>_given_<source>` is left
        out with the reason.
    """
    for name, x in samples.items():
        none = True
        prefix = f"{name}_given_{source}{way and '/'}{way}"
        for figure in _figures_of_one(real, source, name, x, truth, prefix):
            none = False
            yield figure
        if none:
            yield from left_out([prefix], _reason(real, source, name))


def _figures_of_one(
    real: RealData, source: str, name: str, x: np.ndarray, truth: Values, prefix: str
) -> Iterator[Figure]:
    modality, given = real.modalities[name], real.modalities[source]
    labels = [label for label in real.labels if label in truth and modality.shows_labels]
    for label in labels:
        rows = data.present(truth, [label])
        agreement = functools.partial(real.agreement, label, name, x[rows], truth[label][rows])
        place = f"{prefix}/{label}" if len(labels) > 1 else prefix
        yield from figures_of([f"{place}/agreement"], int(rows.sum()), agreement)
    if name in truth:
        rows = data.present(truth, [name])
        yield from measured(prefix, modality.measures(given), x[rows], truth[name][rows], real)
    if name == real.primary:
        yield from measured(prefix, given.measures_of_primary, x, truth[source], real)


def _reason(real: RealData, source: str, name: str) -> str:
    """Why there is no figure of a modality that was generated from another one."""
    modality = real.modalities[name]
    if modality.shows_labels:
        return "the examples have no label to read off it"
    if not modality.figures:
        return f"the modality {type(modality).__name__} has no figures"
    return f"what {name!r} should be is not known where {source!r} is given"
