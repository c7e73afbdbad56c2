"""Batches: shuffled anew each epoch, the same for a seed, split over processes, prefetched."""

import collections
import functools
import itertools
import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import grain
import jax
import numpy as np
from absl import flags

from mmdiffusion_jax import errors, ranges
from mmdiffusion_jax.data.derived import FRESH, Derived, derive
from mmdiffusion_jax.data.sources import ArraySource, Source

# Batches in memory; grain's default of 500 is meant for single examples.
_READ_AHEAD = 16
# Sets the order of an epoch apart from other draws, such as what `Kept` keeps.
_ORDER = 1
# Bytes of a batch that is gathered within some tens of microseconds.
_SMALL = 2**20


def train_batches(
    source: Source,
    *,
    batch_size: int,
    seed: int,
    start_example: int = 0,
    rows: np.ndarray | None = None,
    num_threads: int | None = None,
) -> Iterator[dict[str, np.ndarray]]:
    """Endless training batches from one global order of examples.

    Global batch k holds the examples [k · batch_size, (k + 1) · batch_size) of that order; a
    process reads the rows of it that its devices hold. So the order depends on neither the number
    of processes nor of threads, and one counter resumes it. The derived columns of a `Derived`
    source are drawn anew for each batch, by the seed and the batch's number, with the same result.

    Args:
        source: the examples.
        batch_size: of all processes together.
        seed: of the order; each epoch is shuffled anew.
        start_example: how many examples were used before, a multiple of `batch_size`.
        rows: which rows of each batch this process reads, rising; left out, all.
        num_threads: how many threads read ahead, 0 for none. Left out, there are 2, or none where
            the examples are in memory and batches below 1 MiB, as to wake a thread then costs more
            than it saves.

    Yields:
        {column: (rows, …)}.

    Raises:
        ValueError: a batch size below 1, a start that is negative or within a batch, rows that are
            not in the batch or do not rise.

    Example:
        >>> from mmdiffusion_jax.data import ArraySource
        >>> source = ArraySource({"label": np.arange(4)})
        >>> epoch = next(train_batches(source, batch_size=4, seed=0))["label"]
        >>> sorted(epoch.tolist())
        [0, 1, 2, 3]
    """
    ranges.check_whole("batch_size", batch_size, 1)
    if start_example < 0 or start_example % batch_size:
        raise errors.invalid(
            "start_example",
            start_example,
            f"a multiple of the batch size {batch_size}",
            "a resumed run keeps its batch size",
        )
    rows = np.arange(batch_size) if rows is None else np.asarray(rows)
    if not len(rows) or rows[0] < 0 or rows[-1] >= batch_size or (np.diff(rows) < 1).any():
        expected = f"some of 0 … {batch_size - 1}, rising"
        raise errors.invalid("rows", rows, expected, "correct them")
    if num_threads is None:
        num_threads = 0 if _are_at_hand(source, len(rows)) else 2
    return _read(source, batch_size, seed, start_example // batch_size, rows, num_threads)


def _are_at_hand(source: Source, batch_size: int) -> bool:
    """Whether batches take less time than to wake a thread for them."""
    sizes = (math.prod(shape) * dtype.itemsize for shape, dtype in source.columns.values())
    in_memory = isinstance(source, ArraySource) and source.in_memory
    return in_memory and batch_size * sum(sizes) < _SMALL


def _read(
    source: Source, batch_size: int, seed: int, start: int, rows: np.ndarray, num_threads: int
) -> Iterator[dict[str, np.ndarray]]:
    batches = _Batches(source, batch_size, seed, rows)
    if not num_threads:
        yield from map(batches.__getitem__, itertools.count(start))
        return
    # grain reads absl flags, which outside absl.app nobody has parsed.
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
    options = grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=_READ_AHEAD)
    iterator = iter(grain.MapDataset.source(batches).to_iter_dataset(options))
    if start:
        iterator.set_state({"next_index": start})
    try:
        yield from iterator
    finally:
        # Threads that read ahead would otherwise be waited for when the process ends.
        iterator.close()


class _Batches:
    """A process' rows of every batch, without end; a batch is one gather a column.

    An epoch's order is one permutation, 8 bytes an example; the last two are kept, as threads that
    read ahead are on both sides of an epoch's end.
    """

    def __init__(self, source: Source, batch_size: int, seed: int, rows: np.ndarray) -> None:
        self._derivations = source.derivations if isinstance(source, Derived) else None
        self._source = source.source if isinstance(source, Derived) else source
        self._batch_size, self._seed, self._rows = batch_size, seed, rows
        self._order = functools.lru_cache(maxsize=2)(
            lambda epoch: np.random.default_rng((seed, epoch, _ORDER)).permutation(len(source))
        )

    def __len__(self) -> int:
        return sys.maxsize // self._batch_size

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        batch = self._source.take(self._examples(index))
        if self._derivations is None:
            return batch
        seed = (self._seed, FRESH, index)
        return {**batch, **derive(self._derivations, batch, seed, self._rows, self._batch_size)}

    def _examples(self, index: int) -> np.ndarray:
        """The numbers of the examples of a batch."""
        num_examples = len(self._source)
        epochs, places = np.divmod(index * self._batch_size + self._rows, num_examples)
        # A batch may be larger than an epoch and so reach over several.
        examples = np.empty_like(places)
        for epoch in np.unique(epochs).tolist():
            within = epochs == epoch
            examples[within] = self._order(epoch)[places[within]]
        return examples


def eval_batches(
    source: Source, batch_size: int
) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray]]:
    """One pass in order, in batches of one size.

    Args:
        source: the examples.
        batch_size: of every batch; the last is filled up by repeating the last example.

    Yields:
        ({column: (batch_size, …)}, valid (batch_size,) booleans, False on what was filled up).

    Raises:
        ValueError: a batch size below 1.

    Example:
        >>> from mmdiffusion_jax.data import ArraySource
        >>> source = ArraySource({"label": np.arange(3)})
        >>> [valid.tolist() for _, valid in eval_batches(source, 2)]
        [[True, True], [True, False]]
    """
    ranges.check_whole("batch_size", batch_size, 1)
    for start in range(0, len(source), batch_size):
        rows = np.arange(start, start + batch_size)
        yield source.take(np.minimum(rows, len(source) - 1)), rows < len(source)


def to_device(
    batches: Iterable[Mapping[str, np.ndarray]],
    sharding: jax.sharding.Sharding,
    batch_size: int,
    rows: np.ndarray | None = None,
    buffer_size: int = 2,
) -> Iterator[dict[str, jax.Array]]:
    """Moves batches to the devices ahead of their use.

    Args:
        batches: this process' rows of each global batch.
        sharding: the layout of the global batch.
        batch_size: of all processes together.
        rows: which rows of it these are, rising; left out, all.
        buffer_size: how many batches are under way.

    Yields:
        {column: global array (batch_size, …)}; integers and floats in JAX's default widths.

    Example:
        >>> device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        >>> next(to_device([{"label": np.arange(2)}], device, batch_size=2))["label"].tolist()
        [0, 1]
    """
    rows = np.arange(batch_size) if rows is None else rows

    def put(x: np.ndarray) -> jax.Array:
        x = x.astype(jax.dtypes.canonicalize_dtype(x.dtype), copy=False)

        def part(index: Any) -> np.ndarray:
            first, last, _ = index[0].indices(batch_size)
            return x[np.searchsorted(rows, first) : np.searchsorted(rows, last)]

        return jax.make_array_from_callback((batch_size, *x.shape[1:]), sharding, part)

    moved = ({column: put(x) for column, x in batch.items()} for batch in batches)
    buffer = collections.deque(itertools.islice(moved, buffer_size))
    while buffer:
        yield buffer.popleft()
        buffer.extend(itertools.islice(moved, 1))
