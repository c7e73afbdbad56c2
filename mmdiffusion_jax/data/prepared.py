"""Prepared TFDS data sets as sources, by their folder and without TensorFlow."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import flags, logging

from mmdiffusion_jax import errors, ranges
from mmdiffusion_jax.data.sources import NUMBERS, ArraySource, Columns, Source

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

# So many records at a time are decoded on their way into memory.
_CHUNK = 1024


class RecordSource:
    """Examples that are read and decoded on access; several threads may read at once.

    Args:
        records: random access with `__len__` and `__getitems__`, such as a TFDS data source.
        columns: {column: (shape of one example, dtype)}; other features are left out.
        name: what errors call the records.
        left_out: {feature: why it is no column}.

    Example:
        >>> class Squares:
        ...     def __len__(self):
        ...         return 5
        ...     def __getitems__(self, keys):
        ...         return [{"square": key**2} for key in keys]
        >>> source = RecordSource(Squares(), {"square": ((), np.dtype(np.int64))})
        >>> source.take(np.array([3, 1]))["square"].tolist()
        [9, 1]
    """

    def __init__(
        self,
        records: Any,
        columns: Columns,
        name: str = "records",
        left_out: Mapping[str, str] | None = None,
    ) -> None:
        self._records = records
        self.columns = columns
        self._name = name
        self.left_out = dict(left_out or {})

    def __len__(self) -> int:
        return len(self._records)

    def take(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """The examples at `indices` (batch,): {column: (batch, …)}.

        Raises:
            ValueError: records that cannot be read or decoded.
        """
        try:
            rows = self._records.__getitems__([int(i) for i in indices])
            # Scalars come as Python numbers, so the declared dtype is restored.
            return {
                column: np.stack([np.asarray(row[column], dtype) for row in rows])
                for column, (_, dtype) in self.columns.items()
            }
        # The reader's errors share no type of their own.
        except Exception as error:
            raise errors.invalid(
                self._name,
                f"records that cannot be read ({error})",
                f"{len(self)} whole examples",
                "prepare the data set again",
            ) from error


def open_tfds(
    folder: str | os.PathLike[str], split: str, max_in_memory_bytes: int = 2**30
) -> Source:
    """Opens one split of an already prepared TFDS data set by its folder, without TensorFlow.

    The data set must be stored as array_record. A small split is decoded once into memory; a
    larger one is decoded on access. Features that are not numbers of one fixed shape are left out.

    Args:
        folder: the folder with `dataset_info.json` (…/name/version).
        split: the name of the split, such as "train".
        max_in_memory_bytes: the greatest decoded size, in bytes, that is kept in memory.

    Raises:
        ValueError: no data set there, another file format, an unknown split, no usable feature,
            or record files that are missing, damaged, or hold another number of examples.

    Example:
        >>> import tempfile
        >>> from mmdiffusion_jax.data import digits
        >>> with tempfile.TemporaryDirectory() as data_dir:
        ...     source = open_tfds(digits.prepare(data_dir), "test")
        >>> len(source), source.columns["image"]
        (360, ((8, 8, 1), dtype('uint8')))
    """
    # The record reader reads absl flags, which outside absl.app nobody has parsed.
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
    path = Path(folder)
    builder = _builder(path)
    splits = dict(builder.info.splits)
    ranges.check_one_of("split", split, splits)
    columns, left_out = _fixed_columns(builder.info.features, path)
    name = f"{path}, split {split!r}"
    try:
        _check_files(splits[split])
        records = builder.as_data_source(split=split)
    # Both TFDS and the record reader raise whatever they meet.
    except Exception as error:
        raise errors.invalid(
            "folder",
            f"{str(path)!r}, whose split {split!r} cannot be read ({error})",
            f"{splits[split].num_examples} whole examples",
            "prepare it again",
        ) from error
    source = RecordSource(records, columns, name, left_out)
    size = sum(int(np.prod(shape)) * dtype.itemsize for shape, dtype in columns.values())
    return source if size * len(source) > max_in_memory_bytes else _in_memory(source, name)


def tfds_digest(folder: str | os.PathLike[str], splits: Sequence[str]) -> str:
    """A digest, 64 hexadecimal digits, of some splits of a prepared TFDS data set in a folder.

    It depends on the features, the metadata of the splits, and the names and sizes of their files,
    so it costs the same for a large data set as for a small one, and not on where the folder lies.

    Raises:
        ValueError: no data set there, or metadata that cannot be read.

    Example:
        >>> import tempfile
        >>> from mmdiffusion_jax.data import digits
        >>> with tempfile.TemporaryDirectory() as data_dir:
        ...     len(tfds_digest(digits.prepare(data_dir), ("train", "test")))
        64
    """
    path = Path(folder)
    _check_prepared(path)
    try:
        stated = json.loads((path / "dataset_info.json").read_text(encoding="utf-8"))
        features = json.loads((path / "features.json").read_text(encoding="utf-8"))
        kept = [split for split in stated["splits"] if split["name"] in splits]
        sizes = {
            file.name: file.stat().st_size
            for split in sorted(splits)
            for file in sorted(path.glob(f"*-{split}.array_record-*"))
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _unreadable(path, error) from error
    listing = json.dumps([stated["name"], features, kept, sizes], sort_keys=True)
    return hashlib.sha256(listing.encode()).hexdigest()


def _check_prepared(path: Path) -> None:
    if (path / "dataset_info.json").is_file():
        return
    inner = sorted(p.parent.name for p in path.glob("*/dataset_info.json"))
    raise errors.invalid(
        "folder",
        f"{str(path)!r}, which has no dataset_info.json",
        "the folder of a prepared TFDS data set",
        f"did you mean its folder {inner[-1]!r}?" if inner else "prepare the data set first",
    )


def _unreadable(path: Path, error: Exception) -> ValueError:
    return errors.invalid(
        "folder", f"{str(path)!r} ({error})", "readable metadata", "prepare it again"
    )


def _builder(path: Path) -> "tfds.core.DatasetBuilder":
    import tensorflow_datasets as tfds

    _check_prepared(path)
    try:
        builder = tfds.builder_from_directory(path)
    # Damaged metadata make TFDS raise errors of many kinds.
    except Exception as error:
        raise _unreadable(path, error) from error
    file_format = builder.info.file_format
    if file_format is None or file_format.value != "array_record":
        raise errors.invalid(
            "folder",
            f"{str(path)!r} in the format {file_format and file_format.value!r}",
            "the format 'array_record'",
            "prepare it with file_format='array_record'",
        )
    return builder


def _fixed_columns(features: Mapping[str, Any], path: Path) -> tuple[Columns, dict[str, str]]:
    columns: Columns = {}
    left_out: dict[str, str] = {}
    for column, feature in features.items():
        info = feature.get_tensor_info()
        if not is_fixed_number(info):
            logging.info("Feature %r of %s: no numbers of one shape; left out.", column, path)
            left_out[column] = f"a feature {type(feature).__name__}, no numbers of one shape"
            continue
        columns[column] = (tuple(info.shape), np.dtype(info.np_dtype))
    if not columns:
        raise errors.invalid(
            "folder",
            f"{str(path)!r} with the features {sorted(features)}",
            "a feature that is numbers of one fixed shape",
            "prepare the data set with one",
        )
    return columns, left_out


def is_fixed_number(info: Any) -> bool:
    """Whether a TFDS feature's tensor info is of numbers of one fixed shape.

    Example:
        >>> import tensorflow_datasets as tfds
        >>> is_fixed_number(tfds.features.TensorInfo((None, 3), np.float32))
        False
    """
    # A nested feature has a dictionary here, and an axis of varying length the size None.
    if isinstance(info, Mapping) or None in info.shape:
        return False
    return np.dtype(info.np_dtype).kind in NUMBERS


def _check_files(info: "tfds.core.SplitInfo") -> None:
    from array_record.python import array_record_module

    # TFDS trusts the metadata, and would take an exchanged file for the one it wrote.
    for file, expected in zip(info.filepaths, info.shard_lengths, strict=True):
        reader = array_record_module.ArrayRecordReader(str(file))
        count = reader.num_records()
        reader.close()
        if count != expected:
            raise ValueError(f"{file.name} holds {count} examples, not {expected}")


def _in_memory(source: RecordSource, name: str) -> ArraySource:
    count = len(source)
    arrays = {
        column: np.empty((count, *shape), dtype)
        for column, (shape, dtype) in source.columns.items()
    }
    for start in range(0, count, _CHUNK):
        stop = min(start + _CHUNK, count)
        for column, values in source.take(np.arange(start, stop)).items():
            arrays[column][start:stop] = values
    return ArraySource(arrays, name, source.left_out)
