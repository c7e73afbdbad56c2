"""Fidelity and diversity by nearest neighbours: precision and recall, density and coverage.

Distances are Euclidean and computed in blocks, so that memory grows with the number of examples
times the block, not with its square.
"""

from collections.abc import Iterator

import numpy as np

from mmdiffusion_jax import errors
from mmdiffusion_jax.metrics.rows import checked_pair

_NAMES = ("real", "generated")


def precision_recall(
    real: np.ndarray, generated: np.ndarray, *, k: int = 3, block_size: int = 1024
) -> tuple[float, float]:
    """Improved precision and recall (Kynkäänniemi et al. 2019, eq. 1 and 2).

    Precision is the share of generated examples within the k-th neighbour's distance of some real
    one (bounds included); recall the same with the sets exchanged. The neighbours of an example do
    not include itself.

    Args:
        real: (m, features), more than k rows.
        generated: (n, features), more than k rows.
        k: which neighbour sets the radius.
        block_size: rows of the distance matrix that are held at once.

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
        radii = _radii(centres, k, block_size)
        return float(np.mean([near.any() for near in _within(x, centres, radii, block_size)]))

    return covered(real, generated), covered(generated, real)


def density_coverage(
    real: np.ndarray, generated: np.ndarray, *, k: int = 5, block_size: int = 1024
) -> tuple[float, float]:
    """Density and coverage (Naeem et al. 2020, eq. 5 and 6).

    Density is the mean number of real examples whose k-th neighbour's distance reaches a generated
    one, over k; coverage the share of real examples with a generated one within that distance.

    Args:
        real: (m, features), more than k rows.
        generated: (n, features), more than k rows.
        k: which neighbour sets the radius.
        block_size: rows of the distance matrix that are held at once.

    Returns:
        (density, coverage): density is at least 0 and may exceed 1, coverage is in [0, 1].

    Raises:
        ValueError: as `precision_recall`.

    Example:
        >>> line = np.arange(4.0)[:, None]
        >>> density_coverage(line, line, k=1)
        (2.5, 1.0)
    """
    real, generated = _checked(real, generated, k)
    radii = _radii(real, k, block_size)
    inside, covered = 0, np.zeros(len(real), bool)
    for near in _within(generated, real, radii, block_size):
        inside += near.sum()
        covered |= near
    return float(inside / (k * len(generated))), float(covered.mean())


def _checked(real: np.ndarray, generated: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    if k < 1:
        raise ValueError(errors.message("k", k, "1 or more", "raise it"))
    return checked_pair(real, generated, at_least=k + 1, names=_NAMES)


def _radii(x: np.ndarray, k: int, block_size: int) -> np.ndarray:
    """Squared distance of each row to its k-th nearest other row, (examples,)."""
    radii = np.empty(len(x))
    for start, squared in _squared_distances(x, x, block_size):
        rows = np.arange(len(squared))
        squared[rows, start + rows] = np.inf
        radii[start + rows] = np.partition(squared, k - 1, axis=1)[:, k - 1]
    return radii


def _within(
    x: np.ndarray, centres: np.ndarray, radii: np.ndarray, block_size: int
) -> Iterator[np.ndarray]:
    """For each row of x, which centres reach it: (centres,) booleans."""
    for _, squared in _squared_distances(x, centres, block_size):
        yield from squared <= radii


def _squared_distances(
    x: np.ndarray, y: np.ndarray, block_size: int
) -> Iterator[tuple[int, np.ndarray]]:
    """(first row, squared distances (up to block_size, rows of y)) for blocks of rows of x."""
    # Around a common centre the expanded square loses less to cancellation.
    centre = y.mean(axis=0)
    x, y = x - centre, y - centre
    squares = np.square(y).sum(axis=1)
    for start in range(0, len(x), block_size):
        block = x[start : start + block_size]
        squared = np.square(block).sum(axis=1)[:, None] + squares - 2 * block @ y.T
        yield start, np.maximum(squared, 0.0)
