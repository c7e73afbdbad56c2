"""Calls of a compiled network on images: in batches, and with the channels it expects."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np


def in_batches(function: Callable[..., Any], *images: np.ndarray, batch_size: int = 256) -> Any:
    """A function of all images, a batch at a time.

    The function makes a pytree of (batch, …) arrays from images (batch, …) of each kind; the result
    is that pytree with all n rows, NumPy arrays, for n of at least 1. The last batch is filled up,
    so that only one size is compiled.

    Example:
        >>> in_batches(lambda x: 2 * x, np.arange(5), batch_size=2).tolist()
        [0, 2, 4, 6, 8]
    """
    total = len(images[0])
    size = min(batch_size, total)
    outputs = []
    for start in range(0, total, size):
        rows = np.minimum(np.arange(start, start + size), total - 1)
        outputs.append(jax.device_get(function(*(x[rows] for x in images))))
    return jax.tree.map(lambda *parts: np.concatenate(parts)[:total], *outputs)


def repeated_grey(images: np.ndarray) -> np.ndarray:
    """Images (n, height, width, channels) of one channel as images of three; others as they are.

    Example:
        >>> repeated_grey(np.zeros((2, 4, 4, 1))).shape, repeated_grey(np.zeros((2, 4, 4, 4))).shape
        ((2, 4, 4, 3), (2, 4, 4, 4))
    """
    if images.ndim == 4 and images.shape[-1] == 1:
        return np.broadcast_to(images, (*images.shape[:3], 3))
    return images
