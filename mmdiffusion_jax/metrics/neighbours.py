"""Fidelity and diversity by nearest neighbours: precision and recall, density and coverage.

Distances are Euclidean. scikit-learn computes them in chunks of rows, so that memory does not grow
with the square of the number of examples; `sklearn.config_context(working_memory=…)` sets how much.
"""

from collections.abc import Iterator

import numpy as np

from mmdiffusion_jax import ranges
from mmdiffusion_jax.metrics.rows import checked_pair

_NAMES = ("real", "generated")


def precision_recall(real: np.ndarray, generated: np.ndarray, *, k: int = 3) -> tuple[float, float]:
    """Improved precision and recall (Kynkäänniemi et al. 2019, eq. 1 and 2).

    Precision is the share of generated examples within the k-th neighbour's distance of some real
    one (bounds included); recall the same with the sets exchanged. The neighbours of an example do
    not include itself.

    Args:
        real: (m, features), more than k rows.
        generated: (n, features), more than k rows.
        k: which neighbour sets the radius.

    Returns:
        (precision, recall), each in [0, 1].

    Raises:
        ValueError: another rank, no more than k rows, values that are not finite, different
            numbers of features, or k below 1.

    Example:
        >>> line = np.arange(4.0)[:, None]
        >>> precision_recall(line, line + 3.0, k=1)
        (0.5, 0.5)
    """
    real, generated = _checked(real, generated, k)

    def covered(centres: np.ndarray, x: np.ndarray) -> float:
        reached = np.zeros(len(x), bool)
        for near in _within(centres, x, k):
            reached |= near
        return float(reached.mean())

    return covered(real, generated), covered(generated, real)


def density_coverage(real: np.ndarray, generated: np.ndarray, *, k: int = 5) -> tuple[float, float]:
    """Density and coverage (Naeem et al. 2020, eq. 5 and 6).

    Density is the mean number of real examples whose k-th neighbour's distance reaches a generated
    one, over k; coverage the share of real examples with a generated one within that distance.
    Arguments and errors are those of `precision_recall`.

    Returns:
        (density, coverage): density is at least 0 and may exceed 1, coverage is in [0, 1].

    Example:
        >>> line = np.arange(4.0)[:, None]
        >>> density_coverage(line, line, k=1)
        (2.5, 1.0)
    """
    real, generated = _checked(real, generated, k)
    inside, covered = 0, 0
    for near in _within(real, generated, k):
        inside += int(near.sum())
        covered += bool(near.any())
    return float(inside / (k * len(generated))), float(covered / len(real))


def _checked(real: np.ndarray, generated: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    ranges.check_whole("k", k, 1)
    real, generated = checked_pair(real, generated, at_least=k + 1, names=_NAMES)
    # Near the origin the expanded square of a distance loses less to cancellation.
    centre = real.mean(axis=0)
    return real - centre, generated - centre


def _within(centres: np.ndarray, x: np.ndarray, k: int) -> Iterator[np.ndarray]:
    """For each centre, which rows of x the k-th neighbour's distance reaches: (rows,) booleans."""
    from sklearn.metrics import pairwise_distances_chunked

    # A centre is nearest to itself. Products with a copy are rounded as those with x are, so that a
    # row of x that equals the k-th neighbour is reached.
    others = pairwise_distances_chunked(
        centres, centres.copy(), reduce_func=lambda chunk, _: np.partition(chunk, k, axis=1)[:, k]
    )
    radii = np.concatenate(list(others))
    first = 0
    for chunk in pairwise_distances_chunked(centres, x):
        yield from chunk <= radii[first : first + len(chunk), None]
        first += len(chunk)
