"""The kernel distance between two sets of feature vectors (KID)."""

import numpy as np

from mmdiffusion_jax import errors, ranges
from mmdiffusion_jax.metrics.rows import checked_pair


def kernel_distance(x: np.ndarray, y: np.ndarray, *, block_size: int = 1024) -> float:
    """Unbiased squared maximum mean discrepancy of two whole sets (Bińkowski et al. 2018, eq. 4).

    Σ_{i≠j} k(x_i, x_j)/(m(m−1)) + Σ_{i≠j} k(y_i, y_j)/(n(n−1)) − 2 Σ_{i,j} k(x_i, y_j)/(mn) with
    the polynomial kernel k(x, y) = (xᵀy/d + 1)³ of d features. All pairs count; the estimate of
    zero may be negative. Papers often report `kernel_distance_of_subsets` instead.

    Args:
        x: (m, features), two rows or more.
        y: (n, features), two rows or more.
        block_size: rows of the kernel matrix that are held at once.

    Returns:
        The distance; without a unit.

    Raises:
        ValueError: another rank, too few rows, values that are not finite, or different numbers
            of features; or a block of less than one row.

    Example:
        >>> kernel_distance(np.array([[0.0], [0.0]]), np.array([[1.0], [1.0]]))
        7.0
    """
    x, y = checked_pair(x, y, at_least=2)
    ranges.check_whole("block_size", block_size, 1)
    within = sum(
        (_kernel_sum(each, each, block_size) - _kernel(np.square(each).sum(1), each).sum())
        / (len(each) * (len(each) - 1))
        for each in (x, y)
    )
    return float(within - 2 * _kernel_sum(x, y, block_size) / (len(x) * len(y)))


def kernel_distance_of_subsets(
    x: np.ndarray, y: np.ndarray, *, num_subsets: int = 100, subset_size: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Mean and standard deviation of `kernel_distance` over random subsets of both sets.

    This is the KID of most reports: subsets of 1000 without replacement within a subset.

    Args:
        x: (m, features), `subset_size` rows or more.
        y: (n, features), `subset_size` rows or more.
        num_subsets: how many subsets are drawn.
        subset_size: how many rows each has, two or more.
        seed: of the draws.

    Returns:
        (mean, standard deviation with n in the denominator).

    Raises:
        ValueError: as `kernel_distance`, or numbers that do not fit the sets.

    Example:
        >>> kernel_distance_of_subsets(
        ...     np.zeros((3, 1)), np.ones((4, 1)), num_subsets=5, subset_size=2
        ... )
        (7.0, 0.0)
    """
    x, y = checked_pair(x, y, at_least=2)
    if not 2 <= subset_size <= min(len(x), len(y)):
        raise errors.invalid(
            "subset_size",
            subset_size,
            f"2 … {min(len(x), len(y))}, the rows of the smaller set",
            "change it, or pass more rows",
        )
    ranges.check_whole("num_subsets", num_subsets, 1)
    rng = np.random.default_rng(seed)
    distances = [
        kernel_distance(
            *(each[rng.choice(len(each), subset_size, replace=False)] for each in (x, y))
        )
        for _ in range(num_subsets)
    ]
    return float(np.mean(distances)), float(np.std(distances))


def _kernel_sum(x: np.ndarray, y: np.ndarray, block_size: int) -> float:
    blocks = range(0, len(x), block_size)
    products = (x[start : start + block_size] @ y.T for start in blocks)
    return sum(float(np.sum(_kernel(block, x))) for block in products)


def _kernel(products: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The kernel of inner products of vectors like the rows of x."""
    return (products / x.shape[1] + 1) ** 3
