"""Latents or embeddings of images, made once by a frozen network and kept on disk."""

import hashlib
import io
import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from mmdiffusion_jax import errors, files, ranges
from mmdiffusion_jax.data.pipeline import eval_batches
from mmdiffusion_jax.data.presence import SUFFIX, present
from mmdiffusion_jax.data.sources import Columns, Source, Subset

_SHARD = 4096
_SAMPLED = 1024


class LatentSource:
    """A source in which latents take the place of one column, or stand beside it.

    Latents in a column of their own have the booleans `<column>_present` of the images, where there
    are any.

    Args:
        source: the examples.
        column: of the images.
        shards: the latents in order, each but the last of the same length.
        into: the column of the latents; left out, that of the images.

    Attributes:
        source: the examples.
        adds: whether the latents stand beside the images.

    Example:
        >>> from mmdiffusion_jax.data import ArraySource
        >>> images = ArraySource({"image": np.zeros((3, 2, 2, 3))})
        >>> latents = [np.zeros((2, 1, 1, 4)), np.ones((1, 1, 1, 4))]
        >>> LatentSource(images, "image", latents).take(np.array([2]))["image"].shape
        (1, 1, 1, 4)
    """

    def __init__(
        self, source: Source, column: str, shards: list[np.ndarray], into: str | None = None
    ) -> None:
        self.source, self._shards = source, shards
        self._column = column if into is None else into
        self.adds = self._column != column
        self._masks = {}
        if self.adds and column + SUFFIX in source.columns:
            self._masks = {self._column + SUFFIX: column + SUFFIX}
        latents = (shards[0].shape[1:], shards[0].dtype)
        masks = {mask: source.columns[origin] for mask, origin in self._masks.items()}
        self.columns: Columns = {**source.columns, self._column: latents, **masks}

    def __len__(self) -> int:
        return len(self.source)

    def take(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """The examples at `indices` (batch,): {column: (batch, …)}."""
        shape, dtype = self.columns[self._column]
        latents = np.empty((len(indices), *shape), dtype)
        places, rows = np.divmod(indices, len(self._shards[0]))
        for place in np.unique(places):
            in_shard = places == place
            latents[in_shard] = self._shards[place][rows[in_shard]]
        batch = self.source.take(indices)
        masks = {mask: batch[origin] for mask, origin in self._masks.items()}
        return {**batch, self._column: latents, **masks}


def cache_latents(
    source: Source,
    column: str,
    encode: Callable[[np.ndarray], np.ndarray],
    identity: str,
    folder: str | os.PathLike[str],
    batch_size: int = 64,
    into: str | None = None,
) -> LatentSource:
    """Encodes a column once, shard by shard, and reads the latents from disk ever after.

    The cache of one network and one data set lies in a folder of its own, named by a digest of
    `identity`, the column's shape and dtype, the number of examples, and the bytes of 1,024
    evenly spread ones: latents of another network or of other data are never taken for these. Where
    a few examples may be corrected, `identity` is to name their contents too.
    A shard is there whole or not at all; a run that was cut off goes on after the last one. Opening
    a cache reads it once to check every checksum, and a shard that does not match is encoded again.
    Shards are mapped into memory, not loaded.

    Args:
        source: the examples.
        column: of the images.
        encode: (batch_size, …) → latents (batch_size, …); it always gets whole batches.
        identity: names the autoencoder, or what else encodes, with its parameters.
        folder: of all caches.
        batch_size: images at a time.
        into: a new column for the latents; left out, they take the place of the images.

    Returns:
        The source, with the latents; those of absent images mean nothing.

    Raises:
        ValueError: an unknown column, a new one that the source has, an empty identity, a batch
            size below 1, or latents that are not finite or not as many as the images.
    """
    ranges.check_one_of("column", column, source.columns)
    if into in source.columns:
        raise errors.invalid(
            "into", f"{into!r}, which the source has", "a new column", "rename it or leave it out"
        )
    if not identity:
        raise errors.invalid("identity", "nothing", "what names the autoencoder", "name it")
    manifest = _manifest(source, column, identity)
    key = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    path = Path(folder) / key[:32]
    path.mkdir(parents=True, exist_ok=True)
    checksums = _read_checksums(path / "manifest.json")
    shards = []
    for place, start in enumerate(range(0, len(source), _SHARD)):
        file = path / f"{place:05d}.npy"
        if not file.is_file() or checksums.get(file.name) != _checksum(file):
            rows = np.arange(start, min(start + _SHARD, len(source)))
            logging.info("Latents %d … %d of %d.", start, rows[-1], len(source))
            content = io.BytesIO()
            np.save(content, _encode(Subset(source, rows), column, encode, batch_size))
            with files.replacing(file) as stream:
                stream.write(content.getbuffer())
            # Of what was to be written, not of what the disk gives back.
            checksums[file.name] = zlib.crc32(content.getbuffer())
            listing = json.dumps({**manifest, "shards": checksums}, indent=1)
            files.write_text(path / "manifest.json", listing)
        shards.append(np.load(file, mmap_mode="r"))
    return LatentSource(source, column, shards, into)


def _manifest(source: Source, column: str, identity: str) -> dict[str, Any]:
    shape, dtype = source.columns[column]
    rows = np.unique(np.linspace(0, len(source) - 1, _SAMPLED).astype(np.int64))
    sample = np.ascontiguousarray(source.take(rows)[column])
    return {
        "identity": identity,
        "column": column,
        "shape": list(shape),
        "dtype": str(dtype),
        "examples": len(source),
        "sample": hashlib.sha256(sample.tobytes()).hexdigest(),
        "shard_size": _SHARD,
    }


def _encode(
    part: Source, column: str, encode: Callable[[np.ndarray], np.ndarray], batch_size: int
) -> np.ndarray:
    encoded = []
    for batch, valid in eval_batches(part, batch_size):
        latents = np.asarray(encode(batch[column]))
        if len(latents) != batch_size or not np.isfinite(latents[present(batch, [column])]).all():
            raise errors.invalid(
                "encode",
                f"latents of shape {latents.shape} with "
                f"{np.count_nonzero(~np.isfinite(latents))} not finite",
                f"{batch_size} finite ones",
                "correct the autoencoder",
            )
        encoded.append(latents[valid])
    return np.concatenate(encoded)


def _read_checksums(file: Path) -> dict[str, int]:
    # Without checksums the latents are encoded again, and nothing else is lost.
    try:
        return dict(json.loads(file.read_text(encoding="utf-8"))["shards"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _checksum(file: Path) -> int:
    checksum = 0
    with file.open("rb") as stream:
        while part := stream.read(2**20):
            checksum = zlib.crc32(part, checksum)
    return checksum
