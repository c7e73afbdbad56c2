"""Feature vectors as rows, checked once for every metric that compares sets of them."""

import numpy as np

from mmdiffusion_jax import errors


def checked_rows(argument: str, x: np.ndarray, at_least: int = 1) -> np.ndarray:
    """At least so many rows x (examples, features), in float64; errors call them `argument`.

    Raises:
        ValueError: another rank, fewer rows, or values that are not finite.

    Example:
        >>> checked_rows("x", np.ones((2, 3), np.float32)).dtype
        dtype('float64')
    """
    x = np.asarray(x, dtype=np.float64)
    if x.ndim != 2 or len(x) < at_least:
        raise errors.invalid(
            argument,
            f"shape {x.shape}",
            f"(examples, features) with {at_least} rows or more",
            "flatten each example, or pass more of them",
        )
    if not np.all(np.isfinite(x)):
        raise errors.invalid(
            argument, "values that are not finite", "finite features", "check the samples"
        )
    return x


def checked_pair(
    x: np.ndarray, y: np.ndarray, at_least: int = 1, names: tuple[str, str] = ("x", "y")
) -> tuple[np.ndarray, np.ndarray]:
    """Two sets of rows (examples, features) of as many features, in float64, as `checked_rows`.

    Raises:
        ValueError: as `checked_rows`, or different numbers of features.

    Example:
        >>> checked_pair(np.ones((2, 3)), np.ones((5, 3)))[1].shape
        (5, 3)
    """
    x, y = checked_rows(names[0], x, at_least), checked_rows(names[1], y, at_least)
    check_same_features(x.shape[1], y.shape[1], names)
    return x, y


def check_same_features(num_x: int, num_y: int, names: tuple[str, str] = ("x", "y")) -> None:
    """Checks that both sets have as many features; else raises a ValueError."""
    if num_x != num_y:
        raise errors.invalid(
            names[1],
            f"{num_y} features",
            f"{num_x}, as {names[0]} has",
            "take both from one extractor",
        )
