"""Sheets of samples: which ones a page shows, and what it holds of them."""

import base64
import dataclasses
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from absl import logging
from PIL import Image

from mmdiffusion_jax import files
from mmdiffusion_jax.report.markup import Markup, element

MOST_SHEETS = 24
"""The sheets of one kind that a page shows, of all steps."""

_MOST_BYTES, _LONGEST = 250_000, 1000
_NUMBERED = re.compile(r"(.+)_(\d{8,})\.png")
_QUALITIES = (85, 70, 50, 30, 10)
T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Sheet:
    """A picture of samples.

    Attributes:
        kind: what it shows, such as `samples`.
        step: of training; None where its file does not say.
        file: a PNG file.
    """

    kind: str
    step: int | None
    file: Path


def sheets_in(folder: Path) -> list[Sheet]:
    """The sheets of a run: those that training writes, by step, then those of an evaluation.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> (folder / "samples").mkdir()
        >>> for name in ("samples/samples_00000020", "samples/samples_00000003", "joint"):
        ...     _ = (folder / f"{name}.png").write_bytes(b"")
        >>> [(sheet.kind, sheet.step) for sheet in sheets_in(folder)]
        [('samples', 3), ('samples', 20), ('joint', None)]
    """
    numbered = []
    samples = folder / "samples"
    for file in samples.rglob("*.png"):
        match = _NUMBERED.fullmatch(file.relative_to(samples).as_posix())
        if match and not files.is_unfinished(file):
            numbered.append(Sheet(match[1], int(match[2]), file))
    numbered.sort(key=lambda sheet: (sheet.kind, sheet.step))
    others = sorted([*folder.glob("joint*.png"), *folder.glob("given_*.png")])
    return numbered + [Sheet(file.stem, None, file) for file in others]


def spread(items: Sequence[T], most: int = MOST_SHEETS) -> list[T]:
    """At most so many of the items: every 2ᵏ-th, and the last.

    Those that are chosen stay chosen, or go, while further items come.

    Example:
        >>> spread("abcdefghi", most=4)
        ['a', 'e', 'i']
    """
    apart = 1
    while len(chosen := [*range(0, len(items), apart)]) + (chosen[-1:] != [len(items) - 1]) > most:
        apart *= 2
    if items and chosen[-1] != len(items) - 1:
        chosen.append(len(items) - 1)
    return [items[index] for index in chosen]


class Pictures:
    """Pictures as a page holds them; what has been read once is kept.

    A file of more than 250,000 bytes is made smaller, to at most 1,000 pixels a side, and becomes a
    JPEG of at most so many bytes.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[Path, int, int], Markup] = {}
        self._used: set[tuple[Path, int, int]] = set()

    def show(self, file: Path, words: str) -> Markup | None:
        """The picture of a file, with words for those who do not see it; None if it is damaged."""
        try:
            about = file.stat()
            key = (file, about.st_mtime_ns, about.st_size)
            if key not in self._kept:
                self._kept[key] = _embedded(file, words)
        # Pillow raises much for files that are no pictures.
        except Exception as error:
            logging.warning("The picture %s is left out of the page: %s", file, error)
            return None
        self._used.add(key)
        return self._kept[key]

    def forget(self) -> None:
        """Drops what was not shown since the last call."""
        self._kept = {key: x for key, x in self._kept.items() if key in self._used}
        self._used = set()


def _embedded(file: Path, words: str) -> Markup:
    data, kind = file.read_bytes(), "png"
    with Image.open(io.BytesIO(data)) as picture:
        width, height = picture.size
        if len(data) > _MOST_BYTES:
            smaller = picture.convert("RGB")
            smaller.thumbnail((_LONGEST, _LONGEST))
            for quality in _QUALITIES:
                stream = io.BytesIO()
                smaller.save(stream, format="jpeg", quality=quality, subsampling=0)
                if stream.tell() <= _MOST_BYTES:
                    break
            data, kind = stream.getvalue(), "jpeg"
            width, height = smaller.size
        else:
            picture.verify()
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    return element("img", src=source, alt=words, width=width, height=height)
