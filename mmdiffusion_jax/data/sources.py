"""Where examples come from: arrays in memory, `.npz` files, prepared TFDS data sets."""

import difflib
import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from absl import logging

from mmdiffusion_jax import errors

Columns = dict[str, tuple[tuple[int, ...], np.dtype]]


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
        ValueError: no columns, columns of different lengths, no examples, or objects.

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


class RecordSource:
    """Examples that are read and decoded on access, from a TFDS data source.

    Args:
        records: random access with `__len__` and `__getitems__`.
        columns: {column: (shape of one example, dtype)}; other features are left out.
    """

    def __init__(self, records: Any, columns: Columns) -> None:
        self._records = records
        self._columns = columns

    @property
    def columns(self) -> Columns:
        """{column: (shape of one example, dtype)}."""
        return self._columns

    def __len__(self) -> int:
        return len(self._records)

    def take(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """The examples at `indices` (batch,): {column: (batch, …)}."""
        rows: Sequence[Mapping[str, Any]] = self._records.__getitems__([int(i) for i in indices])
        return {
            column: np.stack([np.asarray(row[column]) for row in rows]) for column in self._columns
        }


def open_npz(path: str | os.PathLike[str]) -> ArraySource:
    """Opens a user's own data: an `.npz` file with one array a modality.

    An array `<modality>_present` of booleans says in which examples that modality is there.

    Args:
        path: the file.

    Raises:
        ValueError: a file that is missing, empty, damaged, or holds anything but arrays of numbers
            with one leading length.
    """
    file = Path(path)
    if not file.is_file():
        near = difflib.get_close_matches(
            file.name, [p.name for p in file.parent.glob("*.npz")] if file.parent.is_dir() else []
        )
        raise ValueError(
            errors.message(
                "path",
                f"{str(file)!r}, where there is no file",
                "an .npz file",
                f"did you mean {near[0]!r}?" if near else "check the path",
            )
        )
    try:
        # NumPy does not close a damaged file it was given by name.
        with file.open("rb") as stream:
            archive = np.load(stream, allow_pickle=False)
            if not hasattr(archive, "files"):
                raise ValueError("not an .npz archive")
            arrays = {name: archive[name] for name in archive.files}
    except (ValueError, EOFError, OSError, KeyError, zipfile.BadZipFile, zlib.error) as error:
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


def open_tfds(
    folder: str | os.PathLike[str], split: str, max_in_memory_bytes: int = 2**30
) -> Source:
    """Opens one split of an already prepared TFDS data set by its folder, without TensorFlow.

    The data set must be stored as array_record. A small split is decoded once into memory; a
    larger one is decoded on access. Features that are not numbers of one fixed shape are left out.

    Args:
        folder: the folder with `dataset_info.json` (…/name/version).
        split: its name, such as "train".
        max_in_memory_bytes: the greatest decoded size that is kept in memory.

    Raises:
        ValueError: no data set there, another file format, an unknown split, no usable feature,
            or record files that are missing or damaged.
    """
    import tensorflow_datasets as tfds

    path = Path(folder)
    if not (path / "dataset_info.json").is_file():
        inner = sorted(p.parent.name for p in path.glob("*/dataset_info.json"))
        raise ValueError(
            errors.message(
                "folder",
                f"{str(path)!r}, which has no dataset_info.json",
                "the folder of a prepared TFDS data set",
                f"did you mean its folder {inner[-1]!r}?"
                if inner
                else "prepare the data set first",
            )
        )
    try:
        builder = tfds.builder_from_directory(path)
        splits = dict(builder.info.splits)
    except Exception as error:
        raise ValueError(
            errors.message(
                "folder", f"{str(path)!r} ({error})", "readable metadata", "prepare it again"
            )
        ) from error
    if split not in splits:
        raise ValueError(errors.unknown("split", split, splits))
    file_format = builder.info.file_format
    if file_format is None or file_format.value != "array_record":
        raise ValueError(
            errors.message(
                "folder",
                f"{str(path)!r} in the format {file_format and file_format.value!r}",
                "the format 'array_record'",
                "prepare it with file_format='array_record'",
            )
        )
    try:
        records: Any = builder.as_data_source(split=split)
        first = records[0]
        columns = _fixed_columns(first, str(path))
        source: Source = RecordSource(records, columns)
        size = sum(np.prod(shape) * dtype.itemsize for shape, dtype in columns.values())
        if size * len(source) <= max_in_memory_bytes:
            source = ArraySource(source.take(np.arange(len(source))), name=str(path))
    except Exception as error:
        raise ValueError(
            errors.message(
                "folder",
                f"{str(path)!r}, whose split {split!r} cannot be read ({error})",
                f"{splits[split].num_examples} whole examples",
                "prepare it again",
            )
        ) from error
    return source


def _fixed_columns(example: Mapping[str, Any], name: str) -> Columns:
    columns: Columns = {}
    for column, value in example.items():
        array = np.asarray(value) if not isinstance(value, Mapping) else None
        if array is None or array.dtype.kind not in "biuf":
            logging.info("Feature %r of %s is no array of numbers; left out.", column, name)
            continue
        columns[column] = (array.shape, array.dtype)
    if not columns:
        raise ValueError("no feature is an array of numbers")
    return columns
