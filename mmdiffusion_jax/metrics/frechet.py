"""The Fréchet distance between two sets of feature vectors."""

import numpy as np

from mmdiffusion_jax.metrics.rows import check_same_features, checked_rows
from mmdiffusion_jax.metrics.statistics import MomentStatistics


def frechet_distance(x: np.ndarray | MomentStatistics, y: np.ndarray | MomentStatistics) -> float:
    """Fréchet distance of the Gaussians fitted to two sets (Dowson & Landau 1982, eq. 4).

    d² = ‖m_x − m_y‖² + tr( S_x + S_y − 2 (S_x^{1/2} S_y S_x^{1/2})^{1/2} ); d² is what reports on
    image features call the distance (Heusel et al. 2017, eq. 6). It is computed by eigenvalues, so
    covariances may be singular, as where a pixel never changes.

    Args:
        x: (examples, features), or the statistics of such rows.
        y: as x, of the other set.

    Returns:
        d² in squared units of the features, at least 0.

    Raises:
        ValueError: another rank, fewer than two rows, values that are not finite, or different
            numbers of features.

    Example:
        >>> ones = np.array([[0.0], [2.0]])
        >>> round(frechet_distance(ones, ones + 3), 6)
        9.0
        >>> streamed = MomentStatistics.empty(1).update([[0.0]]).update([[2.0]])
        >>> round(frechet_distance(streamed, ones + 3), 6)
        9.0
    """
    (mean_x, cov_x), (mean_y, cov_y) = _moments("x", x), _moments("y", y)
    check_same_features(mean_x.size, mean_y.size)
    values, vectors = np.linalg.eigh(cov_x)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    cross = np.sqrt(np.clip(np.linalg.eigvalsh(root @ cov_y @ root), 0, None)).sum()
    distance = ((mean_x - mean_y) ** 2).sum() + np.trace(cov_x) + np.trace(cov_y) - 2 * cross
    return float(max(distance, 0.0))


def _moments(argument: str, x: np.ndarray | MomentStatistics) -> tuple[np.ndarray, np.ndarray]:
    if isinstance(x, MomentStatistics):
        return x.compute()
    x = checked_rows(argument, x, at_least=2)
    return x.mean(axis=0), np.atleast_2d(np.cov(x, rowvar=False))
