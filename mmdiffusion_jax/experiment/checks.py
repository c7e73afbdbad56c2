"""Whether data fit the modalities of an experiment; values of absent modalities do not count."""

import difflib
from collections.abc import Iterator, Mapping

import numpy as np
from absl import logging

from mmdiffusion_jax import data, errors
from mmdiffusion_jax.data.presence import SUFFIX
from mmdiffusion_jax.modalities import Modality

_CHUNK = 1024


def check_opened(source: data.Source, modalities: Mapping[str, Modality], split: str) -> None:
    """Checks the columns of a source, before others are derived from them.

    A column `<name>_present` is the mask of the column `<name>`, unless a modality has that name.

    Raises:
        ValueError: a modality whose column holds no numbers, a mask without its column, or one that
            is not a boolean an example.
    """
    left_out = getattr(source, "left_out", {})
    for name in modalities:
        if name in left_out:
            raise errors.invalid(
                f"{split} data, {name}",
                left_out[name],
                "numbers, as a modality of this name reads the column",
                "store class numbers or embeddings of it in its stead",
            )
    origins = {modality.derived_from for modality in modalities.values()}
    for column, (shape, dtype) in source.columns.items():
        if not column.endswith(SUFFIX) or column in modalities:
            continue
        name = column.removesuffix(SUFFIX)
        if name not in {*source.columns, *left_out, *modalities}:
            _check_orphan(column, dtype, {*source.columns, *modalities}, split)
        elif name in {*modalities, *origins} and (shape != () or dtype != np.bool_):
            raise errors.invalid(
                f"{split} data, {column}",
                f"examples of shape {tuple(shape)} and dtype {np.dtype(dtype)}",
                f"one boolean an example, True where {name!r} is there",
                f"store {column}.reshape(len({column})).astype(bool)"
                if int(np.prod(shape)) == 1
                else "store a vector of booleans",
            )


def check_source(source: data.Source, modalities: Mapping[str, Modality], split: str) -> None:
    """Checks that a source has every modality, in its shape, kind and range.

    The range is checked where a modality is present: on all examples of a source of arrays, on the
    first 1,024 of another and of what is derived.

    Args:
        source: the examples, with all columns; its masks have passed `check_opened`.
        modalities: {name: modality}.
        split: the name that errors give the data, "train" or "test".

    Raises:
        ValueError: naming split and modality, what came and what was expected; also where no
            training example has a modality.
    """
    for name, modality in modalities.items():
        if name not in source.columns:
            raise errors.invalid(
                f"{split} data",
                "the arrays " + ", ".join(map(repr, sorted(source.columns))),
                f"an array {name!r} too, for the modality of this name",
                "add it, or take the modality out of the config",
            )
        (shape, dtype), (expected, kind) = source.columns[name], modality.columns
        if tuple(shape) != tuple(expected) or not np.issubdtype(dtype, getattr(np, kind)):
            raise errors.invalid(
                f"{split} data, {name}",
                f"examples of shape {tuple(shape)} and dtype {np.dtype(dtype)}",
                f"shape {tuple(expected)} and {kind} values",
                modality.conversion(_some_rows(source, name)),
            )
    highest: dict[str, float] = {}
    squares: dict[str, float] = {}
    counts: dict[str, int] = {}
    for name, x in present_values(source, modalities):
        modalities[name].validate(f"{split} data, {name}", x)
        highest[name] = max(highest.get(name, -np.inf), float(x.max()))
        if x.dtype.kind == "f":
            norm = float(np.linalg.norm(x.astype(np.float64, copy=False)))
            squares[name] = squares.get(name, 0.0) + norm**2
            counts[name] = counts.get(name, 0) + x.size
    if split != "train":
        return
    stored = _stored(source)
    for name, modality in modalities.items():
        if name in highest:
            rms = (squares[name] / counts[name]) ** 0.5 if name in squares else 1.0
            if suspicion := modality.suspicion(highest[name], rms):
                logging.warning("%s data, %s: %s", split, name, suspicion)
        # A derived column is read in part only, and is absent where its origin is.
        if isinstance(stored, data.ArraySource) and name in stored.columns and name not in highest:
            raise errors.invalid(
                f"{split} data, {name}",
                f"{name}{SUFFIX} with no True in it",
                "an example to learn from",
                "correct the mask, or take the modality out of the config",
            )


def present_values(
    source: data.Source, modalities: Mapping[str, Modality]
) -> Iterator[tuple[str, np.ndarray]]:
    """The values of modalities where they are present, as (name, x (examples, …)) in chunks.

    All examples of a source of arrays, the first 1,024 of another and of what is derived.
    """
    stored = _stored(source)
    count = len(stored) if isinstance(stored, data.ArraySource) else min(_CHUNK, len(stored))
    # An error names the column that is wrong rather than one that is derived from it.
    names = sorted(modalities, key=lambda name: modalities[name].derived_from is not None)
    for start in range(0, count, _CHUNK):
        rows = np.arange(start, min(start + _CHUNK, count))
        # One rule derives a column in all rows, and deriving takes time: the first chunk will do.
        batch = (stored if start else source).take(rows)
        for name in names:
            if name in batch and len(x := batch[name][data.present(batch, [name])]):
                yield name, x


def _some_rows(source: data.Source, name: str) -> np.ndarray:
    """Some values of a column: present ones, unless there are none."""
    examples = source.take(np.arange(min(_CHUNK, len(source))))
    rows = examples[name][data.present(examples, [name])]
    return rows if len(rows) else examples[name]


def _stored(source: data.Source) -> data.Source:
    """The source without what is made of its columns and stands beside them."""
    if isinstance(source, data.Derived) or (isinstance(source, data.LatentSource) and source.adds):
        return _stored(source.source)
    return source


def _check_orphan(column: str, dtype: np.dtype, known: set[str], split: str) -> None:
    """Refuses a mask without a column; numbers are a column where no other name is alike."""
    name = column.removesuffix(SUFFIX)
    others = sorted(other for other in known if not other.endswith(SUFFIX))
    near = difflib.get_close_matches(name, others, n=1, cutoff=0.5)
    if not near and dtype != np.bool_:
        return
    raise errors.invalid(
        f"{split} data",
        f"the mask {column!r} without a column {name!r}",
        f"a mask named after one of the columns {', '.join(map(repr, others))}",
        f"did you mean '{near[0]}{SUFFIX}', of the column {near[0]!r}?"
        if near
        else "rename it, or leave it out",
    )
