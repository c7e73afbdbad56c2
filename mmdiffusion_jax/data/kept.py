"""Scarce data out of whole ones: some examples keep a modality, and the others lack it."""

import numpy as np

from mmdiffusion_jax import errors
from mmdiffusion_jax.data.presence import SUFFIX, rows_with
from mmdiffusion_jax.data.sources import Columns, Source


class Kept:
    """A source in which only some examples have a modality, by a column `<name>_present`.

    Of a class an example, such as a label, each class keeps equally many, as far as there are; of
    anything else the examples are drawn at random.

    Args:
        source: all examples.
        name: of the modality.
        count: how many examples keep it, at least 1.
        seed: of the draw, 0 or more; the same seed keeps it in the same examples.

    Raises:
        ValueError: no such column, a count that is below 1 or above what there is, or a seed below
            0.

    Example:
        >>> from mmdiffusion_jax.data import ArraySource
        >>> source = Kept(ArraySource({"label": np.array([3, 1, 3, 1, 1])}), "label", 2, seed=0)
        >>> batch = source.take(np.arange(5))
        >>> sorted(batch["label"][batch["label_present"]].tolist())
        [1, 3]
    """

    def __init__(self, source: Source, name: str, count: int, seed: int = 0) -> None:
        if name not in source.columns:
            raise errors.unknown("kept", name, source.columns)
        rows = rows_with(source, [name])
        if not 1 <= count <= len(rows):
            raise errors.invalid(
                f"kept.{name}", count, f"1 … {len(rows)}, the examples that have it", "change it"
            )
        if seed < 0:
            raise errors.invalid("seed", seed, "0 or more", "raise it")
        rows = np.random.default_rng(seed).permutation(rows)
        shape, dtype = source.columns[name]
        if not shape and dtype.kind in "iu":
            rows = rows[_in_turn(source.take(rows)[name])]
        self._source, self._column = source, name + SUFFIX
        self._mask = np.zeros(len(source), bool)
        self._mask[rows[:count]] = True
        self.columns: Columns = {**source.columns, self._column: ((), np.dtype(bool))}

    def __len__(self) -> int:
        return len(self._source)

    def take(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """The examples at `indices` (batch,): {column: (batch, …)}."""
        return {**self._source.take(indices), self._column: self._mask[indices]}


def _in_turn(classes: np.ndarray) -> np.ndarray:
    """An order of the places (n,) in which the first of every class come first, then the second."""
    place_in_class = np.zeros(len(classes), np.int64)
    for each in np.unique(classes):
        mine = classes == each
        place_in_class[mine] = np.arange(mine.sum())
    return np.argsort(place_in_class, kind="stable")
