"""The Fréchet distance between two sets of feature vectors."""

import numpy as np

from mmdiffusion_jax import errors


def gaussian_statistics(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and unbiased covariance of feature rows, in float64.

    Args:
        x: (examples, features), at least two finite rows.

    Returns:
        (features,) and (features, features).

    Raises:
        ValueError: another rank, fewer than two rows, or values that are not finite.

    Example:
        >>> mean, covariance = gaussian_statistics(np.array([[0.0], [2.0]]))
        >>> mean.tolist(), covariance.tolist()
        ([1.0], [[2.0]])
    """
    x = np.asarray(x, dtype=np.float64)
    if x.ndim != 2 or len(x) < 2:
        raise ValueError(
            errors.message(
                "x", f"shape {x.shape}", "(examples, features), two rows or more", "flatten it"
            )
        )
    if not np.all(np.isfinite(x)):
        raise ValueError(
            errors.message(
                "x", "values that are not finite", "finite features", "check the samples"
            )
        )
    return x.mean(axis=0), np.atleast_2d(np.cov(x, rowvar=False))


def frechet_distance(x: np.ndarray, y: np.ndarray) -> float:
    """Fréchet distance of the Gaussians fitted to two sets (Dowson & Landau 1982).

    d² = ‖m_x − m_y‖² + tr( S_x + S_y − 2 (S_x^{1/2} S_y S_x^{1/2})^{1/2} ), this d² is returned, as
    is the custom with image features. Eigenvalues are used throughout, so that singular
    covariances (a pixel that never changes) do no harm.

    Args:
        x: (examples, features).
        y: (examples, features), the same features.

    Returns:
        d² in squared units of the features, at least 0.

    Raises:
        ValueError: as `gaussian_statistics`, or different numbers of features.

    Example:
        >>> ones = np.array([[0.0], [2.0]])
        >>> round(frechet_distance(ones, ones + 3), 6)
        9.0
    """
    (mean_x, cov_x), (mean_y, cov_y) = gaussian_statistics(x), gaussian_statistics(y)
    if mean_x.shape != mean_y.shape:
        raise ValueError(
            errors.message(
                "y",
                f"{mean_y.size} features",
                f"{mean_x.size}, as x has",
                "take both from one extractor",
            )
        )
    values, vectors = np.linalg.eigh(cov_x)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    cross = np.sqrt(np.clip(np.linalg.eigvalsh(root @ cov_y @ root), 0, None)).sum()
    distance = ((mean_x - mean_y) ** 2).sum() + np.trace(cov_x) + np.trace(cov_y) - 2 * cross
    return float(max(distance, 0.0))
