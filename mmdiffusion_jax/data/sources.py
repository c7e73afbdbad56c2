"""Where examples come from: arrays in memory, and parts of another source."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from absl import logging

from mmdiffusion_jax import errors

Columns = dict[str, tuple[tuple[int, ...], np.dtype]]
NUMBERS = "biuf"
"""The kinds of dtype that can be a column: booleans, integers and floats."""


class Source(Protocol):
    """Random access to examples, a batch of columns at a time."""

    @property
    def columns(self) -> Columns:
        """{column: (shape of one example, dtype)}."""

    def __len__(self) -> int: ...

    def take(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """The examples at `indices` (batch,): {column: (batch, …)}."""


class ArraySource:
    """Examples in memory or in mapped files; a batch is one gather a column.

    Arrays that are neither numbers nor booleans, such as captions, are left out. Batches have the
    machine's byte order and floats of at most 64 bits, as devices take no others.

    Args:
        arrays: {column: (examples, …)}, all of the same length.
        name: what errors call the source.
        left_out: {column: why it is not among the arrays}, what the caller has left out already.

    Attributes:
        left_out: {column: why it is no column of this source}.
        in_memory: whether no column is in a mapped file.

    Raises:
        ValueError: no columns of numbers, columns of different lengths, or no examples.

    Example:
        >>> source = ArraySource({"label": np.array([3, 1, 4])})
        >>> source.take(np.array([2, 0]))["label"].tolist()
        [4, 3]
    """

    def __init__(
        self,
        arrays: Mapping[str, np.ndarray],
        name: str = "arrays",
        left_out: Mapping[str, str] | None = None,
    ) -> None:
        self._arrays: dict[str, np.ndarray] = {}
        self.left_out = dict(left_out or {})
        self.in_memory = not any(isinstance(values, np.memmap) for values in arrays.values())
        for column, values in arrays.items():
            array = np.asarray(values)
            if array.dtype.kind in NUMBERS:
                self._arrays[column] = array
            else:
                self.left_out[column] = f"dtype {array.dtype}"
                logging.info("%s[%r] is no array of numbers; it is left out.", name, column)
        if not self._arrays:
            raise _no_columns(name, self.left_out)
        lengths = {
            column: len(array) if array.ndim else None for column, array in self._arrays.items()
        }
        if len(set(lengths.values())) > 1 or None in lengths.values():
            raise errors.invalid(
                name,
                f"arrays of lengths {lengths}",
                "as many examples in every array",
                "give every modality the same leading axis",
            )
        if not len(self):
            raise errors.invalid(name, "no examples", "at least one", "add data")

        self.columns: Columns = {
            column: (x.shape[1:], _usual(x.dtype)) for column, x in self._arrays.items()
        }

    def __len__(self) -> int:
        return len(next(iter(self._arrays.values())))

    def take(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """The examples at `indices` (batch,): {column: (batch, …)}."""
        return {
            column: array[indices].astype(self.columns[column][1], copy=False)
            for column, array in self._arrays.items()
        }


class Subset:
    """Some examples of another source, by their indices (examples,) and in that order.

    Raises:
        ValueError: indices that are not a vector of whole numbers, are none, or lie outside.

    Example:
        >>> source = Subset(ArraySource({"label": np.array([3, 1, 4])}), np.array([2, 0]))
        >>> len(source), source.take(np.array([0]))["label"].tolist()
        (2, [4])
    """

    def __init__(self, source: Source, indices: np.ndarray) -> None:
        self._source, self.columns = source, source.columns
        self._indices = np.asarray(indices)
        if self._indices.ndim != 1 or self._indices.dtype.kind not in "iu" or not len(self):
            raise errors.invalid(
                "indices",
                f"shape {self._indices.shape} and dtype {self._indices.dtype}",
                "a vector of at least one whole number",
                "correct them",
            )
        if self._indices.min() < 0 or self._indices.max() >= len(source):
            raise errors.invalid(
                "indices",
                f"{self._indices.min()} … {self._indices.max()}",
                f"0 … {len(source) - 1}",
                "the source has no other examples",
            )

    def __len__(self) -> int:
        return len(self._indices)

    def take(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """The examples at `indices` (batch,) of this subset: {column: (batch, …)}."""
        return self._source.take(self._indices[indices])


def split_off(source: Source, fraction: float, seed: int) -> tuple[Subset, Subset]:
    """Holds out a random part of a source that has no test split of its own.

    Args:
        source: all examples.
        fraction: the share to hold out, above 0 and below 1, rounded to whole examples.
        seed: of the draw, 0 or more; the same seed holds out the same examples.

    Returns:
        (the rest, what is held out), both in the source's order.

    Raises:
        ValueError: a fraction that leaves either part empty, a negative seed.

    Example:
        >>> rest, held_out = split_off(ArraySource({"label": np.arange(10)}), 0.2, seed=0)
        >>> len(rest), len(held_out)
        (8, 2)
    """
    count = len(source)
    held_out = round(count * fraction) if 0 < fraction < 1 else 0
    if not 0 < held_out < count:
        raise errors.invalid(
            "fraction",
            fraction,
            f"a share of {count} examples that leaves neither part empty",
            "choose it between 0 and 1, or bring more examples",
        )
    if seed < 0:
        raise errors.invalid("seed", seed, "0 or more", "raise it")
    order = np.random.default_rng(seed).permutation(count)
    return Subset(source, np.sort(order[held_out:])), Subset(source, np.sort(order[:held_out]))


def _usual(dtype: np.dtype) -> np.dtype:
    is_long = dtype.kind == "f" and dtype.itemsize > np.dtype(np.float64).itemsize
    return np.dtype(np.float64) if is_long else dtype.newbyteorder("=")


def _no_columns(name: str, left_out: Mapping[str, str]) -> ValueError:
    if not left_out:
        return errors.invalid(name, "no arrays", "an array for each modality", "add them")
    column, why = next(iter(left_out.items()))
    return errors.invalid(f"{name}[{column!r}]", why, "numbers or booleans", "store plain arrays")
