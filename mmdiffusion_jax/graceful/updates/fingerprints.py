"""Fingerprints of encoders, which stored latents keep."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from mmdiffusion_jax import errors
from mmdiffusion_jax.training import read_safetensors, tree_digest, write_safetensors

_KIND = "stored latents"


def fingerprint(params: Any, about: Mapping[str, Any]) -> str:
    """A digest of all that the outputs of an encoder depend on.

    Args:
        params: a pytree of arrays, those that the encoder reads.
        about: its kind and fields, in JSON's types.

    Returns:
        32 hexadecimal digits; other names, shapes, dtypes or bits give others.

    Raises:
        ValueError: `about` is not of JSON's types.

    Example:
        >>> one, same, other = (fingerprint({"w": np.float32(x)}, {}) for x in (1, 1, 2))
        >>> one == same, one == other
        (True, False)
    """
    try:
        described = json.dumps(about, sort_keys=True)
    except TypeError as error:
        # The text of other objects differs from process to process.
        raise errors.invalid(
            "about",
            f"{about} ({error})",
            "numbers, text, lists and mappings",
            "name what the encoder does not read in the modality's decoder_fields, and give "
            "the rest another form in its encoder_fields",
        ) from error
    return hashlib.sha256(f"{described} {tree_digest(params)}".encode()).hexdigest()[:32]


@dataclasses.dataclass(frozen=True)
class Encoder:
    """The identity of an encoder, for those who store and read its latents.

    Attributes:
        fingerprint: of the encoder.
        compatible_with: fingerprints of the encoders that it was trained to be compatible with.

    Raises:
        ValueError: no fingerprint.
    """

    fingerprint: str
    compatible_with: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.fingerprint:
            raise errors.invalid(
                "fingerprint",
                "nothing",
                "that of the encoder which made the latents",
                "take it from its bundle; latents of unknown origin have to be encoded anew",
            )

    def goes_with(self, other: "Encoder") -> bool:
        """Whether latents of both encoders may be mixed in one index.

        Example:
            >>> old, new = Encoder("a"), Encoder("b", compatible_with=("a",))
            >>> old.goes_with(new), new.goes_with(old), new.goes_with(Encoder("c"))
            (True, True, False)
        """
        return (
            self.fingerprint == other.fingerprint
            or self.fingerprint in other.compatible_with
            or other.fingerprint in self.compatible_with
        )


def check_together(argument: str, reader: Encoder, stored: Encoder) -> None:
    """Checks that latents of two encoders may be mixed.

    Args:
        argument: the name that errors give the stored latents.
        reader: the encoder of the model that uses them.
        stored: the encoder that made them.

    Raises:
        ValueError: encoders that are not compatible; it names both.

    Example:
        >>> check_together("gallery", Encoder("a"), Encoder("b"))
        Traceback (most recent call last):
        ...
        ValueError: `gallery`: got latents of encoder b, expected those of encoder a; ...
    """
    if not reader.goes_with(stored):
        others = "".join(f" or {name}" for name in reader.compatible_with)
        raise errors.invalid(
            argument,
            f"latents of encoder {stored.fingerprint}",
            f"those of encoder {reader.fingerprint}{others}",
            "encode them anew, or train the encoder to be compatible",
        )


@dataclasses.dataclass(frozen=True)
class StoredLatents:
    """Latents with the encoder that made them.

    Attributes:
        encoder: the one that made them.
        latents: (n, *latent).
        columns: {name: (n, …)} numbers, stored beside them, such as labels or identifiers.

    Raises:
        ValueError: columns of another length, or of texts, dates or objects.
    """

    encoder: Encoder
    latents: np.ndarray
    columns: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, column in self.columns.items():
            dtype = np.asarray(column).dtype
            if dtype.kind in "OSUMm":
                raise errors.invalid(
                    f"columns[{name!r}]",
                    f"dtype {dtype}",
                    "numbers, which the file can hold",
                    "number the values, and keep a table of them of your own",
                )
            if len(column) != len(self.latents):
                raise errors.invalid(
                    f"columns[{name!r}]",
                    f"{len(column)} rows",
                    f"{len(self.latents)}, as there are latents",
                    "one row a latent",
                )

    def __len__(self) -> int:
        return len(self.latents)


def write_latents(path: str | os.PathLike[str], stored: StoredLatents) -> None:
    """Writes latents and fingerprint as `.safetensors`; all of the file or nothing.

    Example:
        >>> import tempfile
        >>> stored = StoredLatents(Encoder("a"), np.ones((2, 3)), {"label": np.arange(2)})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_latents(f"{folder}/a.safetensors", stored)
        ...     again = read_latents(f"{folder}/a.safetensors", Encoder("a"))
        >>> again.latents.shape, again.columns["label"].tolist()
        ((2, 3), [0, 1])
    """
    about = {"kind": _KIND, **dataclasses.asdict(stored.encoder)}
    write_safetensors(path, {"latents": stored.latents, "columns": dict(stored.columns)}, about)


def read_latents(path: str | os.PathLike[str], reader: Encoder) -> StoredLatents:
    """Reads latents for the model with a certain encoder.

    Args:
        path: the file.
        reader: the encoder of the model that uses them.

    Raises:
        ValueError: a missing or damaged file, one without a fingerprint, or latents of an encoder
            that is not compatible with the reader.
    """
    tensors, about = read_safetensors(path)
    if about.get("kind") != _KIND or not about.get("fingerprint"):
        raise errors.invalid(
            "path",
            f"{os.fspath(path)!r}, which has no fingerprint",
            "latents that `write_latents` wrote",
            "encode them anew",
        )
    encoder = Encoder(about["fingerprint"], tuple(about["compatible_with"]))
    check_together("path", reader, encoder)
    return StoredLatents(encoder, tensors["latents"], tensors.get("columns", {}))
