"""A user's own arrays in `.npz` files: mapped into memory, and unpacked once where they are large.

An `.npz` file is a ZIP archive of `.npy` files. Those that `numpy.savez` stores as they are can be
mapped; those that `numpy.savez_compressed` packs cannot be read at random places.
"""

import contextlib
import hashlib
import io
import json
import lzma
import os
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

import numpy as np
from absl import logging

from mmdiffusion_jax import errors, files
from mmdiffusion_jax.data.sources import NUMBERS, ArraySource

# A damaged archive makes zipfile and NumPy raise these: each bit of small ones was flipped.
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
_CHUNK = 2**20
_LOCAL_HEADER = 30


def open_npz(
    path: str | os.PathLike[str],
    unpacked: str | os.PathLike[str] | None = None,
    max_in_memory_bytes: int = 2**30,
) -> ArraySource:
    """Opens a user's own data: an `.npz` file with one array a modality.

    An array `<modality>_present` of booleans says which examples have that modality. The whole file
    is checked against its checksums first, a piece at a time. Arrays that are stored as they are
    (`numpy.savez`) are then mapped, so a set may be larger than the memory. Compressed ones are
    read into memory up to a limit; a file above it is unpacked once, into another file, which is
    mapped. A mapped file must not be overwritten in place; `write_npz` puts a new one in its stead.

    Args:
        path: the file, which is only read.
        unpacked: the folder for unpacked files, each named by a digest of its contents; None reads
            compressed arrays into memory whatever their size.
        max_in_memory_bytes: the greatest unpacked size, in bytes, that is read into memory.

    Raises:
        ValueError: a file that is missing, empty, damaged, or without arrays of numbers that all
            have one leading length.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.savez(f"{folder}/mine.npz", label=np.array([3, 1, 4]))
        ...     len(open_npz(f"{folder}/mine.npz"))
        3
    """
    file = _existing(path)
    with _readable(file):
        packed = _packed_bytes(file)
    if unpacked is not None and packed > max_in_memory_bytes:
        arrays, left_out = _unpacked(file, Path(unpacked))
    else:
        with _readable(file):
            _check_sums(file)
            arrays, left_out = _arrays(file)
    return ArraySource(arrays, str(file), left_out)


def write_npz(path: str | os.PathLike[str], columns: Mapping[str, np.ndarray]) -> None:
    """Writes columns {column: (examples, …)} for `open_npz`, in place of an older file.

    The file is there whole or not at all.

    Raises:
        ValueError: as `ArraySource`, or a column of Python objects, which could not be read again.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_npz(f"{folder}/mine.npz", {"label": np.array([3, 1, 4])})
        ...     len(open_npz(f"{folder}/mine.npz"))
        3
    """
    file = Path(path)
    arrays = {name: np.asarray(values) for name, values in columns.items()}
    ArraySource(arrays, name=str(file))
    for name, array in arrays.items():
        if array.dtype.hasobject:
            raise errors.invalid(
                f"{file}[{name!r}]",
                f"dtype {array.dtype}",
                "numbers, booleans or text",
                "store plain arrays",
            )
    with files.replacing(file) as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]


def npz_digest(path: str | os.PathLike[str]) -> str:
    """A digest of what an `.npz` file holds, wherever it lies and however it is compressed.

    It depends on the names, sizes and checksums (CRC-32) in the archive's directory, so it costs
    the same for a large file as for a small one. `open_npz` checks the contents against those
    checksums.

    Returns:
        64 hexadecimal digits.

    Raises:
        ValueError: a file that is missing or is no archive.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.savez(f"{folder}/a.npz", label=np.zeros(9))
        ...     np.savez_compressed(f"{folder}/b.npz", label=np.zeros(9))
        ...     npz_digest(f"{folder}/a.npz") == npz_digest(f"{folder}/b.npz")
        True
    """
    file = _existing(path)
    with _readable(file):
        listing = listing_of(file)
    return hashlib.sha256(json.dumps(listing).encode()).hexdigest()


def listing_of(archive: Path | IO[bytes]) -> list[tuple[str, int, int]]:
    """The sorted (name, size, checksum) of what a ZIP archive holds, by its directory alone."""
    with zipfile.ZipFile(archive) as opened:
        return sorted((info.filename, info.file_size, info.CRC) for info in opened.infolist())


def _existing(path: str | os.PathLike[str]) -> Path:
    file = Path(path)
    if file.is_file():
        return file
    what = "which is a folder" if file.is_dir() else "where there is no file"
    others = [p.name for p in file.parent.glob("*") if p.is_file()]
    near = errors.nearest(file.name, others, cutoff=0.6)
    raise errors.invalid(
        "path",
        f"{str(file)!r}, {what}",
        "an .npz file",
        f"did you mean {near[0]!r}?" if near else "check the path",
    )


@contextlib.contextmanager
def _readable(file: Path) -> Iterator[None]:
    try:
        yield
    except UNREADABLE as error:
        raise errors.invalid(
            "path",
            f"{str(file)!r} ({file.stat().st_size} bytes), which cannot be read ({error})",
            "a whole .npz file of plain arrays",
            "write it anew with numpy.savez",
        ) from error


def _packed_bytes(file: Path) -> int:
    """How many bytes the compressed members have when they are unpacked."""
    with zipfile.ZipFile(file) as archive:
        return sum(
            info.file_size
            for info in archive.infolist()
            if info.compress_type != zipfile.ZIP_STORED
        )


def _check_sums(file: Path) -> None:
    # NumPy stops at the length a member's header states, which may be before its checksum.
    with file.open("rb") as stream:
        with zipfile.ZipFile(stream) as archive:
            damaged = archive.testzip()
            listed = len(archive.infolist())
        if damaged:
            raise ValueError(f"the checksum of {damaged!r} does not hold")
        # The archive's end counts its members, of which zipfile passes over those it cannot find;
        # 0xFFFF refers to a longer record, and a comment after the end hides it from this look.
        stream.seek(-22, os.SEEK_END)
        end = stream.read()
        stated = int.from_bytes(end[10:12], "little")
        if end.startswith(b"PK\5\6") and stated not in (listed, 0xFFFF):
            raise ValueError(f"it lists {listed} of its {stated} arrays")


def _arrays(file: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """({column: array}, {column: why it is left out}); nothing that is left out is read."""
    arrays: dict[str, np.ndarray] = {}
    left_out: dict[str, str] = {}
    with file.open("rb") as stream, zipfile.ZipFile(stream) as archive:
        for info in archive.infolist():
            name = info.filename.removesuffix(".npy")
            with archive.open(info) as content:
                header = _header(content)
                if header is None:
                    left_out[name] = "no array in NumPy's format"
                elif header[2].kind not in NUMBERS:
                    left_out[name] = f"dtype {header[2]}"
                elif info.compress_type == zipfile.ZIP_STORED:
                    arrays[name] = _mapped(file, stream, info, content.tell(), header)
                else:
                    content.seek(0)
                    arrays[name] = np.lib.format.read_array(content, allow_pickle=False)
    for name, why in left_out.items():
        logging.info("%s[%r] is no array of numbers (%s); it is left out.", file, name, why)
    return arrays, left_out


def _header(content: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype] | None:
    """(shape, whether the first axis runs fastest, dtype) of an `.npy` file, or None."""
    try:
        version = np.lib.format.read_magic(content)
    except ValueError:
        return None
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(content)
    # Later versions than the second are of records with names beyond Latin letters.
    return np.lib.format.read_array_header_2_0(content) if version == (2, 0) else None


def _mapped(
    file: Path,
    stream: io.BufferedReader,
    info: zipfile.ZipInfo,
    start: int,
    header: tuple[tuple[int, ...], bool, np.dtype],
) -> np.ndarray:
    """A stored member as a mapped array, whose values begin `start` bytes into the member."""
    shape, first_fastest, dtype = header
    size = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if start + size != info.file_size or info.file_size != info.compress_size:
        raise ValueError(f"{info.filename!r} holds {info.file_size - start} bytes, not {size}")
    if not size:
        return np.empty(shape, dtype)
    stream.seek(info.header_offset)
    local = stream.read(_LOCAL_HEADER)
    lengths = (int.from_bytes(local[at : at + 2], "little") for at in (26, 28))
    offset = info.header_offset + _LOCAL_HEADER + sum(lengths) + start
    order = "F" if first_fastest else "C"
    return np.memmap(file, dtype, "r", offset, shape, order)  # type: ignore[call-overload]


def _unpacked(file: Path, folder: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays of a compressed file, from a copy that is stored as it is and made once."""
    digest = npz_digest(file)
    copy = folder / f"{digest[:32]}.npz"
    if copy.is_file():
        try:
            _check_sums(copy)
            if npz_digest(copy) == digest:
                return _arrays(copy)
        except UNREADABLE:
            pass
    with _readable(file):
        _check_sums(file)
    logging.info("Unpacking %s into %s, once.", file, copy)
    folder.mkdir(parents=True, exist_ok=True)
    with (
        zipfile.ZipFile(file) as archive,
        files.replacing(copy) as stream,
        zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as stored,
    ):
        for info in archive.infolist():
            with (
                archive.open(info) as packed,
                stored.open(info.filename, "w", force_zip64=True) as plain,
            ):
                shutil.copyfileobj(packed, plain, _CHUNK)
    return _arrays(copy)
