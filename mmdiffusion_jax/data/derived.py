"""Columns drawn at random from other columns, such as an image with squares cut out of it."""

import zlib
from collections.abc import Callable, Mapping

import numpy as np

from mmdiffusion_jax import errors
from mmdiffusion_jax.data.sources import Columns, Source

Derivations = Mapping[str, tuple[str, Callable[[np.random.Generator, np.ndarray], np.ndarray]]]
"""{new column: (its source column, (rng, x (batch, …)) → (batch, …))}.

The amount and the order of the draws may depend on the shape of x alone, and row i of the result on
row i of x and on the draws alone. So an example's value does not depend on the others in its batch.
"""

FIXED, FRESH = 1, 2
"""Streams of draws: of a row of a source, and of a training batch."""

_BLOCK = 32


class Derived:
    """A source with derived columns added, whose values are a fixed function of seed and row.

    Rows are drawn in fixed blocks of 32, so a row has the same value in whatever batch it is read.
    `train_batches` reads the plain columns of such a source and derives anew for each batch. Where
    the source column has booleans `<name>_present`, the new column gets the same.

    Args:
        source: the examples.
        derivations: the new columns.
        seed: of the draws, 0 or more.

    Raises:
        ValueError: a missing source column, a new column that the source has, a negative seed.

    Example:
        >>> from mmdiffusion_jax.data import ArraySource
        >>> def add_noise(rng, x):
        ...     return x + rng.normal(size=x.shape)
        >>> plain = ArraySource({"x": np.arange(50.0)})
        >>> source = Derived(plain, {"noisy": ("x", add_noise)}, seed=0)
        >>> one, other = source.take(np.array([40])), source.take(np.array([7, 40]))
        >>> bool(one["noisy"][0] == other["noisy"][1])
        True
    """

    def __init__(self, source: Source, derivations: Derivations, seed: int) -> None:
        for name, (origin, _) in derivations.items():
            if origin not in source.columns:
                raise errors.unknown(
                    "derivations", origin, source.columns, f"{name!r} is derived from it"
                )
            if name in source.columns:
                raise errors.invalid(
                    "derivations",
                    f"{name!r}, which the source has",
                    "names of new columns",
                    "rename it or leave it out",
                )
        if seed < 0:
            raise errors.invalid("seed", seed, "0 or more", "raise it")
        self.source = source
        self.derivations = derivations
        self.seed = seed
        first = self.take(np.zeros(1, np.int64))
        self.columns: Columns = {name: (x.shape[1:], x.dtype) for name, x in first.items()}

    def __len__(self) -> int:
        return len(self.source)

    def take(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """The examples at `indices` (batch,): {column: (batch, …)}."""
        batch = self.source.take(indices)
        derived: dict[str, np.ndarray] = {}
        blocks, offsets = np.divmod(indices, _BLOCK)
        for block in np.unique(blocks):
            places = np.flatnonzero(blocks == block)
            part = {column: x[places] for column, x in batch.items()}
            stream = (self.seed, FIXED, block)
            for name, x in derive(self.derivations, part, stream, offsets[places], _BLOCK).items():
                column = derived.setdefault(name, np.empty((len(indices), *x.shape[1:]), x.dtype))
                column[places] = x
        return {**batch, **derived}


def beneath(source: Source, change: Callable[[Source], Source]) -> Source:
    """A source that another is made of, with its derived columns on top, to be drawn anew.

    Args:
        source: with derived columns or without.
        change: makes another source of the one without them, such as a part of it.

    Example:
        >>> from mmdiffusion_jax.data import ArraySource, Subset
        >>> plain = ArraySource({"x": np.arange(50.0)})
        >>> source = Derived(plain, {"twice": ("x", lambda rng, x: 2 * x)}, seed=0)
        >>> part = beneath(source, lambda plain: Subset(plain, np.array([7])))
        >>> type(part).__name__, part.take(np.array([0]))["twice"].tolist()
        ('Derived', [14.0])
    """
    if isinstance(source, Derived):
        return Derived(change(source.source), source.derivations, source.seed)
    return change(source)


def derive(
    derivations: Derivations,
    batch: Mapping[str, np.ndarray],
    stream: tuple[int, ...],
    rows: np.ndarray,
    size: int,
) -> dict[str, np.ndarray]:
    """The derived columns of some rows out of a block that is drawn as a whole.

    So a row of a training batch does not depend on the number of processes that share the batch.

    Args:
        derivations: the new columns.
        batch: {column: (rows, …)}.
        stream: (seed, `FIXED` or `FRESH`, number of the block or batch), whose draws these are.
        rows: (rows,), where each row stands in its block; a row may stand there twice.
        size: of the block.

    Returns:
        {new column: (rows, …)}, and the presence that goes with it.

    Raises:
        ValueError: a derivation that gives another number of rows than it got.
    """
    derived = {}
    for name, (origin, function) in derivations.items():
        x = batch[origin]
        # The draws belong to places in the block: all of it is drawn whichever rows are wanted.
        block = np.zeros((size, *x.shape[1:]), x.dtype)
        block[rows] = x
        rng = np.random.default_rng((*stream, zlib.crc32(name.encode())))
        values = function(rng, block)
        if len(values) != size:
            raise errors.invalid(
                f"derivations[{name!r}]", f"{len(values)} rows", f"{size}", "keep every row"
            )
        derived[name] = values[rows]
        if f"{origin}_present" in batch:
            derived[f"{name}_present"] = batch[f"{origin}_present"]
    return derived
