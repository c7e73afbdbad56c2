"""Which examples have which modalities, by the booleans `<name>_present` beside them."""

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from mmdiffusion_jax import errors, ranges
from mmdiffusion_jax.data.derived import beneath
from mmdiffusion_jax.data.sources import Source, Subset

SUFFIX = "_present"

_CHUNK = 4096
_ROUNDING = 1e-9


def present(columns: Mapping[str, np.ndarray], names: Iterable[str]) -> np.ndarray:
    """Which examples have all of some modalities, (examples,) booleans.

    There is at least one column (examples, …). A modality without a mask is present everywhere.

    Example:
        >>> columns = {"label": np.arange(3), "label_present": np.array([True, False, True])}
        >>> present(columns, ["label"]).tolist(), present(columns, []).tolist()
        ([True, False, True], [True, True, True])
    """
    everywhere = np.ones(len(next(iter(columns.values()))), bool)
    masks = [columns[name + SUFFIX] for name in names if name + SUFFIX in columns]
    return np.all([everywhere, *(np.asarray(mask, bool) for mask in masks)], axis=0)


def rows_with(source: Source, names: Iterable[str], limit: int | None = None) -> np.ndarray:
    """The rows (rows,) of a source that have all of some modalities, rising, and at most `limit`.

    It reads the source in parts, and no further than it must.

    Example:
        >>> from mmdiffusion_jax.data import ArraySource
        >>> source = ArraySource({
        ...     "label": np.arange(4), "label_present": np.array([False, True, False, True])
        ... })
        >>> rows_with(source, ["label"]).tolist(), rows_with(source, ["label"], 1).tolist()
        ([1, 3], [1])
    """
    names = tuple(names)
    total = len(source)
    wanted = total if limit is None else min(limit, total)
    if not any(name + SUFFIX in source.columns for name in names):
        return np.arange(wanted)
    parts = [np.zeros(0, np.int64)]
    count = 0
    for index, columns in enumerate(_parts(source)):
        parts.append(index * _CHUNK + np.flatnonzero(present(columns, names)))
        count += len(parts[-1])
        if count >= wanted:
            break
    return np.concatenate(parts)[:wanted]


def having(source: Source, names: Iterable[str]) -> Source:
    """The examples of a source that have all of some modalities, for training on these alone.

    Columns that `train_batches` derives anew for each batch are still derived so. Where all
    examples have the modalities, it is the source itself.

    Raises:
        ValueError: no example has all of them.

    Example:
        >>> from mmdiffusion_jax.data import ArraySource
        >>> source = ArraySource({
        ...     "label": np.arange(4), "label_present": np.array([False, True, False, True])
        ... })
        >>> having(source, ["label"]).take(np.arange(2))["label"].tolist()
        [1, 3]
    """
    names = tuple(names)
    rows = rows_with(source, names)
    if len(rows) == len(source):
        return source
    if not len(rows):
        raise errors.invalid(
            "training data",
            "no example",
            f"some that have all of {sorted(names)}",
            "bring such data, or leave out a modality",
        )
    return beneath(source, lambda plain: Subset(plain, rows))


def repeated(source: Source, name: str, portion: float) -> Source:
    """A source in which the examples that have a modality are repeated to be a portion of all.

    Each of them is there equally often, a whole number of times, so that the portion is met as
    nearly as that allows. Where they are as many already, it is the source itself.

    Args:
        source: all examples.
        name: of the modality.
        portion: above 0 and below 1.

    Raises:
        ValueError: a portion outside that range.

    Example:
        >>> from mmdiffusion_jax.data import ArraySource
        >>> source = ArraySource({"label": np.arange(4), "label_present": np.arange(4) == 2})
        >>> repeated(source, "label", 0.5).take(np.arange(6))["label"].tolist()
        [0, 1, 2, 3, 2, 2]
    """
    ranges.check_real("portion", portion, 0, 1, "()")
    return in_portions(source, {name: portion})


def in_portions(source: Source, portions: Mapping[str, float]) -> Source:
    """A source in which several modalities are portions of all examples, by repeated examples.

    Examples that have a modality are repeated for it equally often, a whole number of times; those
    that have two, for both. The numbers of times are those by which all portions are met together,
    each as nearly as whole numbers allow. A modality that then has more than its portion without
    being repeated keeps it, and so does one that no example has.

    Args:
        source: all examples.
        portions: {modality: portion}, above 0 and below 1.

    Raises:
        ValueError: a portion outside that range, or portions that cannot be met together.

    Example:
        >>> from mmdiffusion_jax.data import ArraySource
        >>> there = {"label_present": np.arange(9) == 2, "mask_present": np.arange(9) == 5}
        >>> plain = ArraySource({"label": np.arange(9), "mask": np.arange(9), **there})
        >>> source = in_portions(plain, {"label": 0.25, "mask": 0.25})
        >>> count_present(source, ["label", "mask"]), len(source)
        ({'label': 4, 'mask': 4}, 15)
    """
    for name, portion in portions.items():
        ranges.check_real(f"portions.{name}", portion, 0, 1, "()")
    rows = {name: rows_with(source, [name]) for name in portions}
    rows = {name: those for name, those in rows.items() if len(those)}
    times = _times(len(source), list(rows.values()), [portions[name] for name in rows])
    if times is None:
        raise errors.invalid(
            "portions",
            dict(portions),
            "portions that repeated examples meet together, of a sum below 1 where none has two",
            "lower one of them",
        )
    again = [np.tile(those, each - 1) for those, each in zip(rows.values(), times) if each > 1]
    if not again:
        return source
    every = np.concatenate([np.arange(len(source)), *again])
    return beneath(source, lambda plain: Subset(plain, every))


def count_present(source: Source, names: Iterable[str]) -> dict[str, int]:
    """{name: in how many examples of a source this modality is present}, from one pass over it.

    Example:
        >>> from mmdiffusion_jax.data import ArraySource
        >>> source = ArraySource({"label": np.arange(2), "label_present": np.array([False, True])})
        >>> count_present(source, ["image", "label"])
        {'image': 2, 'label': 1}
    """
    counts = dict.fromkeys(names, len(source))
    masked = [name for name in counts if name + SUFFIX in source.columns]
    if masked:
        counts |= dict.fromkeys(masked, 0)
        for columns in _parts(source):
            for name in masked:
                counts[name] += int(present(columns, [name]).sum())
    return counts


def select(columns: Mapping[str, np.ndarray], names: Iterable[str]) -> dict[str, np.ndarray]:
    """The columns of the named modalities and their masks, as far as they are there.

    Example:
        >>> columns = {"label": 1, "label_present": 2, "file": 3, "file_present": 4}
        >>> select(columns, ["label", "image"])
        {'label': 1, 'label_present': 2}
    """
    wanted = {column for name in names for column in (name, name + SUFFIX)}
    return {column: x for column, x in columns.items() if column in wanted}


def _times(total: int, rows: list[np.ndarray], portions: list[float]) -> list[int] | None:
    """How often examples of each modality are there for its sake; None where nothing meets all.

    Of so many examples n_i have modality i and n_ij both. Where each is there e_i times more, all
    portions are met if n_i + Σ_j e_j n_ij ≥ p_i (total + Σ_j e_j n_j). Those that are repeated have
    no more than that: the first of all choices of them that does it is taken, smaller ones first.
    """
    shared = np.zeros((len(rows), len(rows)))
    for i, j in np.ndindex(shared.shape):
        shared[i, j] = len(np.intersect1d(rows[i], rows[j], assume_unique=True))
    counts, wanted = shared.diagonal(), np.array(portions)
    gain, lack = shared - np.outer(wanted, counts), wanted * total - counts
    sizes = range(len(rows) + 1)
    for chosen in itertools.chain(*(itertools.combinations(range(len(rows)), n) for n in sizes)):
        more, part = np.zeros(len(rows)), list(chosen)
        with contextlib.suppress(np.linalg.LinAlgError):
            more[part] = np.linalg.solve(gain[np.ix_(part, part)], lack[part])
        size = total + counts @ more
        is_met = (gain @ more >= lack - _ROUNDING * size).all()
        if is_met and (more >= 0).all() and size < total / _ROUNDING:
            break
    else:
        return None
    # Rounded from the most frequent on, each by what those before it came to: the scarcest, whose
    # whole numbers are the finest, make up for the others.
    for place in np.argsort(-counts, kind="stable"):
        more[place] = 0
        count, size = counts[place], total + counts @ more
        having = count + shared[place] @ more
        exact = (wanted[place] * size - having) / ((1 - wanted[place]) * count)
        # The nearer portion, which is not always that of the nearer whole number.
        whole = max(0.0, np.floor(exact)) + np.arange(2)
        reached = (having + count * whole) / (size + count * whole)
        more[place] = whole[np.argmin(np.abs(reached - wanted[place]))]
    return [1 + int(each) for each in more]


def _parts(source: Source) -> Iterator[dict[str, np.ndarray]]:
    """The examples of a source in order, some at a time."""
    for start in range(0, len(source), _CHUNK):
        yield source.take(np.arange(start, min(start + _CHUNK, len(source))))
