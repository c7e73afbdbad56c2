"""Batches: shuffled anew each epoch, the same for a seed, split over processes, prefetched."""

import collections
import itertools
from collections.abc import Iterable, Iterator, Mapping

import grain
import jax
import numpy as np
from absl import flags

from mmdiffusion_jax import errors
from mmdiffusion_jax.data.derived import Derived, derive_fresh
from mmdiffusion_jax.data.sources import Source


def train_batches(
    source: Source,
    *,
    batch_size: int,
    seed: int,
    start_example: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    num_threads: int = 2,
) -> Iterator[dict[str, np.ndarray]]:
    """Endless training batches from one global order of examples.

    Global batch k holds the examples [k · batch_size, (k + 1) · batch_size) of that order; each
    process gets every `process_count`-th of them. So the order depends on neither the number of
    processes nor of threads, and one counter resumes it. The derived columns of a `Derived` source
    are drawn anew for each batch, by the seed and the batch's number, so the same holds for them.

    Args:
        source: the examples.
        batch_size: of all processes together.
        seed: of the order; each epoch is shuffled anew.
        start_example: how many examples were used before, a multiple of `batch_size`.
        process_index: this process.
        process_count: all processes.
        num_threads: that read ahead.

    Yields:
        {column: (batch_size / process_count, …)}.

    Raises:
        ValueError: a batch size below 1 or not divisible by the processes, a start that is negative
            or within a batch, a process index out of range.

    Example:
        >>> from mmdiffusion_jax.data import ArraySource
        >>> source = ArraySource({"label": np.arange(4)})
        >>> epoch = next(train_batches(source, batch_size=4, seed=0))["label"]
        >>> sorted(epoch.tolist())
        [0, 1, 2, 3]
    """
    if batch_size < 1 or batch_size % process_count:
        raise ValueError(
            errors.message(
                "batch_size",
                batch_size,
                f"a positive multiple of the {process_count} processes",
                "change it",
            )
        )
    if start_example < 0 or start_example % batch_size:
        raise ValueError(
            errors.message(
                "start_example",
                start_example,
                f"a multiple of the batch size {batch_size}",
                "a resumed run keeps its batch size",
            )
        )
    if not 0 <= process_index < process_count:
        raise ValueError(
            errors.message("process_index", process_index, f"0 … {process_count - 1}", "correct it")
        )
    return _read(
        source,
        batch_size,
        seed,
        start_example // batch_size,
        slice(process_index, None, process_count),
        num_threads,
    )


def _read(
    source: Source, batch_size: int, seed: int, start: int, mine: slice, num_threads: int
) -> Iterator[dict[str, np.ndarray]]:
    # grain reads absl flags, which outside absl.app nobody has parsed.
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
    plain = source.source if isinstance(source, Derived) else source
    order = grain.MapDataset.range(len(source)).seed(seed).shuffle().repeat()
    # The indices are batched before the examples are read, so that a batch is one gather.
    rows = order[mine].batch(len(range(batch_size)[mine]))
    batches = rows.map(lambda indices: plain.take(np.asarray(indices)))
    if isinstance(source, Derived):
        derivations = source.derivations
        batches = batches.map_with_index(
            lambda index, batch: derive_fresh(derivations, batch, seed, index, mine, batch_size)
        )
    iterator = iter(batches.to_iter_dataset(grain.ReadOptions(num_threads=num_threads)))
    if start:
        iterator.set_state({"next_index": start})
    yield from iterator


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
    if batch_size < 1:
        raise ValueError(errors.message("batch_size", batch_size, "1 or more", "raise it"))
    for start in range(0, len(source), batch_size):
        rows = np.arange(start, start + batch_size)
        yield source.take(np.minimum(rows, len(source) - 1)), rows < len(source)


def to_device(
    batches: Iterable[Mapping[str, np.ndarray]],
    sharding: jax.sharding.Sharding,
    buffer_size: int = 2,
) -> Iterator[dict[str, jax.Array]]:
    """Moves batches to the devices ahead of their use.

    Args:
        batches: this process' part of each global batch.
        sharding: the layout of the global batch.
        buffer_size: how many batches are under way.

    Yields:
        {column: global array}; integers and floats in JAX's default widths.

    Example:
        >>> device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        >>> next(to_device([{"label": np.arange(2)}], device))["label"].tolist()
        [0, 1]
    """

    def put(batch: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
        return {
            column: jax.make_array_from_process_local_data(
                sharding, x.astype(jax.dtypes.canonicalize_dtype(x.dtype), copy=False)
            )
            for column, x in batch.items()
        }

    moved = map(put, batches)
    buffer = collections.deque(itertools.islice(moved, buffer_size))
    while buffer:
        yield buffer.popleft()
        buffer.extend(itertools.islice(moved, 1))
