"""Where examples come from: arrays in memory, a user's `.npz` file, a part of another source."""

import difflib
import lzma
import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mmdiffusion_jax import errors, files

Columns = dict[str, tuple[tuple[int, ...], np.dtype]]

# What a damaged archive makes zipfile and NumPy raise, found by flipping each bit of small ones.
UNREADABLE = (
    ValueError,
    EOFError,
    OSError,
    KeyError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)


class Source(Protocol):
    """Random access to examples, a batch of columns at a time."""

    @property
    def columns(self) -> Columns:
        """{column: (shape of one example, dtype)}."""

    def __len__(self) -> int: ...

    def take(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """The examples at `indices` (batch,): {column: (batch, …)}."""


class ArraySource:
    """Examples in memory; a batch is one gather a column.

    Args:
        arrays: {column: (examples, …)}, all of the same length.
        name: what errors call it.

    Raises:
        ValueError: no columns, columns of different lengths, no examples, or values that are
            neither numbers nor booleans.

    Example:
        >>> source = ArraySource({"label": np.array([3, 1, 4])})
        >>> source.take(np.array([2, 0]))["label"].tolist()
        [4, 3]
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], name: str = "arrays") -> None:
        self._arrays = {column: np.asarray(array) for column, array in arrays.items()}
        lengths = {
            column: len(array) if array.ndim else None for column, array in self._arrays.items()
        }
        if not lengths:
            raise ValueError(
                errors.message(name, "no arrays", "an array for each modality", "add them")
            )
        for column, array in self._arrays.items():
            if array.dtype.kind not in "biuf":
                raise ValueError(
                    errors.message(
                        f"{name}[{column!r}]",
                        f"dtype {array.dtype}",
                        "numbers or booleans",
                        "store plain arrays",
                    )
                )
        if len(set(lengths.values())) > 1 or None in lengths.values():
            raise ValueError(
                errors.message(
                    name,
                    f"arrays of lengths {lengths}",
                    "as many examples in every array",
                    "give every modality the same leading axis",
                )
            )
        if not len(self):
            raise ValueError(errors.message(name, "no examples", "at least one", "add data"))

    @property
    def columns(self) -> Columns:
        """{column: (shape of one example, dtype)}."""
        return {column: (array.shape[1:], array.dtype) for column, array in self._arrays.items()}

    def __len__(self) -> int:
        return len(next(iter(self._arrays.values())))

    def take(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """The examples at `indices` (batch,): {column: (batch, …)}."""
        return {column: array[indices] for column, array in self._arrays.items()}


class Subset:
    """Some examples of another source, which are read from there.

    Args:
        source: the other source.
        indices: (examples,) whole numbers, in the order wanted here.

    Raises:
        ValueError: indices that are not a vector of whole numbers, are none, or lie outside.

    Example:
        >>> source = Subset(ArraySource({"label": np.array([3, 1, 4])}), np.array([2, 0]))
        >>> len(source), source.take(np.array([0]))["label"].tolist()
        (2, [4])
    """

    def __init__(self, source: Source, indices: np.ndarray) -> None:
        self._source = source
        self._indices = np.asarray(indices)
        if self._indices.ndim != 1 or self._indices.dtype.kind not in "iu" or not len(self):
            raise ValueError(
                errors.message(
                    "indices",
                    f"shape {self._indices.shape} and dtype {self._indices.dtype}",
                    "a vector of at least one whole number",
                    "correct them",
                )
            )
        if self._indices.min() < 0 or self._indices.max() >= len(source):
            raise ValueError(
                errors.message(
                    "indices",
                    f"{self._indices.min()} … {self._indices.max()}",
                    f"0 … {len(source) - 1}",
                    "the source has no other examples",
                )
            )

    @property
    def columns(self) -> Columns:
        """{column: (shape of one example, dtype)}."""
        return self._source.columns

    def __len__(self) -> int:
        return len(self._indices)

    def take(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """The examples at `indices` (batch,) of this subset: {column: (batch, …)}."""
        return self._source.take(self._indices[indices])


def split_off(source: Source, fraction: float, seed: int) -> tuple[Subset, Subset]:
    """Holds out a random part of a source that has no test split of its own.

    Args:
        source: all examples.
        fraction: how much to hold out, above 0 and below 1, rounded to whole examples.
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
        raise ValueError(
            errors.message(
                "fraction",
                fraction,
                f"a share of {count} examples that leaves neither part empty",
                "choose it between 0 and 1, or bring more examples",
            )
        )
    if seed < 0:
        raise ValueError(errors.message("seed", seed, "0 or more", "raise it"))
    order = np.random.default_rng(seed).permutation(count)
    return (
        Subset(source, np.sort(order[held_out:])),
        Subset(source, np.sort(order[:held_out])),
    )


def open_npz(path: str | os.PathLike[str]) -> ArraySource:
    """Opens a user's own data: an `.npz` file with one array a modality.

    An array `<modality>_present` of booleans says in which examples that modality is there. The
    file is only read, and all of it is held against its checksums first.

    Args:
        path: the file.

    Raises:
        ValueError: a file that is missing, empty, damaged, or holds anything but arrays of numbers
            with one leading length.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.savez(f"{folder}/mine.npz", label=np.array([3, 1, 4]))
        ...     len(open_npz(f"{folder}/mine.npz"))
        3
    """
    file = Path(path)
    if not file.is_file():
        what = "which is a folder" if file.is_dir() else "where there is no file"
        near = difflib.get_close_matches(
            file.name,
            [p.name for p in file.parent.iterdir() if p.is_file()] if file.parent.is_dir() else [],
        )
        raise ValueError(
            errors.message(
                "path",
                f"{str(file)!r}, {what}",
                "an .npz file",
                f"did you mean {near[0]!r}?" if near else "check the path",
            )
        )
    try:
        arrays = _read_npz(file)
    except UNREADABLE as error:
        raise ValueError(
            errors.message(
                "path",
                f"{str(file)!r} ({file.stat().st_size} bytes), which cannot be read ({error})",
                "a whole .npz file of plain arrays",
                "write it anew with numpy.savez",
            )
        ) from error
    for name, array in arrays.items():
        if name.endswith("_present") and array.dtype != np.bool_:
            raise ValueError(
                errors.message(
                    f"{file.name}[{name!r}]", f"dtype {array.dtype}", "booleans", "cast it to bool"
                )
            )
    return ArraySource(arrays, name=str(file))


def write_npz(path: str | os.PathLike[str], columns: Mapping[str, np.ndarray]) -> None:
    """Writes columns for `open_npz`; the file is there whole or not at all.

    Args:
        path: the file, which is replaced.
        columns: {column: (examples, …)}.

    Raises:
        ValueError: as `ArraySource`.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_npz(f"{folder}/mine.npz", {"label": np.array([3, 1, 4])})
        ...     len(open_npz(f"{folder}/mine.npz"))
        3
    """
    file = Path(path)
    source = ArraySource(columns, name=str(file))
    arrays: dict[str, Any] = source.take(np.arange(len(source)))
    with files.replacing(file) as stream:
        np.savez(stream, **arrays)


def _read_npz(file: Path) -> dict[str, np.ndarray]:
    # NumPy does not close a damaged file it was given by name.
    with file.open("rb") as stream:
        # NumPy stops at the length a member's header states, which may be before its checksum.
        with zipfile.ZipFile(stream) as members:
            damaged = members.testzip()
            found = len(members.infolist())
        if damaged:
            raise ValueError(f"the checksum of {damaged!r} does not hold")
        # The archive's end counts its members, of which zipfile passes over those it cannot find;
        # 0xFFFF refers to a longer record, and a comment after the end hides it from this look.
        stream.seek(-22, os.SEEK_END)
        end = stream.read()
        stated = int.from_bytes(end[10:12], "little")
        if end.startswith(b"PK\5\6") and stated not in (found, 0xFFFF):
            raise ValueError(f"it lists {found} of its {stated} arrays")
        stream.seek(0)
        archive = np.load(stream, allow_pickle=False)
        return {name: np.asarray(archive[name]) for name in archive.files}
