"""Files that are there whole or not at all."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Opens a binary file that takes its name, and the place of an older one, when it is whole.

    It is written beside its place under a hidden name that holds the process's number, brought to
    the disk and renamed. Where the block fails it is removed, and an older file stays.

    Args:
        path: of the file; its folder must be there.

    Yields:
        The stream to write to.

    Raises:
        OSError: it cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with replacing(f"{folder}/a") as stream:
        ...         _ = stream.write(b"whole")
        ...         before = Path(folder, "a").exists()
        ...     before, Path(folder, "a").read_bytes()
        (False, b'whole')
    """
    file = Path(path)
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes a text file in UTF-8, all of it or nothing.

    Args:
        path: of the file; its folder must be there.
        text: its whole content.

    Raises:
        OSError: it cannot be written; an older file stays.
    """
    with replacing(path) as stream:
        stream.write(text.encode())


def write_png(path: str | os.PathLike[str], image: np.ndarray) -> None:
    """Writes a picture, all of it or nothing.

    Args:
        path: of the file; its folder must be there.
        image: (height, width, 3) uint8.

    Raises:
        OSError: it cannot be written; an older file stays.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_png(f"{folder}/red.png", np.full((2, 3, 3), (255, 0, 0), np.uint8))
        ...     Image.open(f"{folder}/red.png").getpixel((2, 1))
        (255, 0, 0)
    """
    with replacing(path) as stream:
        Image.fromarray(image).save(stream, format="png")
