"""Curves of a `metrics.jsonl`, thinned to what a page can hold, read as the file grows."""

import json
import math
import os
from typing import Any

from mmdiffusion_jax import files

MOST_CURVES = 300
"""Further names of figures are left out of a page."""

_Point = tuple[int, int, float]


class Curve:
    """Points (step, value), thinned while they come, so that it never holds more than about `most`.

    Up to `most` points it has all of them. Of more it keeps, of each of at most most / 2 stretches
    of 2ᵏ points one after another, the lowest, the highest and the first that is not finite; and
    the last point. So spikes stay.

    Args:
        most: a multiple of 4.

    Example:
        >>> curve = Curve(most=4)
        >>> for step, value in enumerate([5, 1, 9, 2, 2, 3, 2, 7, 4]):
        ...     curve.add(step, float(value))
        >>> curve.points()
        [(1, 1.0), (2, 9.0), (8, 4.0)]
    """

    def __init__(self, most: int = 1000) -> None:
        self._most = most // 2
        self._width, self._count = 1, 0
        self._stretches: list[list[_Point]] = []
        self._last: list[_Point] = []

    def add(self, step: int, value: float) -> None:
        """Appends a point."""
        self._last = [(self._count, step, value)]
        if self._count % self._width == 0:
            if len(self._stretches) == self._most:
                pairs = zip(self._stretches[::2], self._stretches[1::2], strict=True)
                self._stretches = [_kept(one + other) for one, other in pairs]
                self._width *= 2
            self._stretches.append([])
        self._stretches[-1] = _kept(self._stretches[-1] + self._last)
        self._count += 1

    def points(self) -> list[tuple[int, float]]:
        """What is kept, in the order in which it came."""
        points = [point for stretch in self._stretches for point in stretch]
        if points and points[-1][0] != self._count - 1:
            points += self._last
        return [(step, value) for _, step, value in points]

    @property
    def is_thinned(self) -> bool:
        """Whether points are left out."""
        return self._count > len(self.points())


def _kept(points: list[_Point]) -> list[_Point]:
    finite = [point for point in points if math.isfinite(point[2])]
    other = [point for point in points if not math.isfinite(point[2])]
    kept = {*other[:1]}
    if finite:
        kept |= {min(finite, key=lambda x: x[2]), max(finite, key=lambda x: (x[2], x[0]))}
    return sorted(kept)


class Curves:
    """The curves of a run, by the names of their figures.

    Args:
        file: a `metrics.jsonl`, which need not be there yet.
        most: points of each curve, about; a multiple of 4.
        skip: names that begin so are left out.

    Attributes:
        last_step: the highest step that the file has, 0 without any.
        damaged: how many lines could not be read.
        left_out: names of figures beyond `MOST_CURVES`.
    """

    def __init__(
        self, file: str | os.PathLike[str], most: int = 1000, skip: str | None = None
    ) -> None:
        self._file, self._most, self._skip = files.to_path(file), most, skip
        self._identity: int | None = None
        self._restart()

    def read(self) -> None:
        """Reads the lines that were written since the last call, or all of a file that is new.

        A last line without its line break is left for the next call.

        Raises:
            OSError: a file that is there and cannot be read.
        """
        if not self._file.exists():
            self._restart()
            return
        if isinstance(self._file, files.BucketPath):
            self._restart()
            for line in files.read_lines(self._file).splitlines(keepends=True):
                self._add(line)
            return
        with self._file.open("rb") as stream:
            about = os.fstat(stream.fileno())
            # A run that is resumed replaces the file by its first lines.
            if about.st_ino != self._identity or about.st_size < self._offset:
                self._restart()
                self._identity = about.st_ino
            stream.seek(self._offset)
            for line in stream:
                if not line.endswith(b"\n"):
                    break
                self._offset += len(line)
                self._add(line)

    def names(self) -> list[str]:
        """The names, in the order of their first points."""
        return list(self._curves)

    def to_json(self) -> dict[str, list[list[Any]]]:
        """{name: [steps, values]}; a value that is not finite is "nan", "inf" or "-inf"."""
        plain: dict[str, list[list[Any]]] = {}
        for name, curve in self._curves.items():
            points = curve.points()
            values = [value if math.isfinite(value) else str(value) for _, value in points]
            plain[name] = [[step for step, _ in points], values]
        return plain

    def last(self, name: str) -> float | None:
        """The newest value of a figure, or None without one."""
        points = self._curves[name].points() if name in self._curves else []
        return points[-1][1] if points else None

    @property
    def are_thinned(self) -> bool:
        """Whether points are left out."""
        return any(curve.is_thinned for curve in self._curves.values())

    def _restart(self) -> None:
        self._offset = 0
        self._curves: dict[str, Curve] = {}
        self.last_step, self.damaged = 0, 0
        self.left_out: set[str] = set()

    def _add(self, text: bytes) -> None:
        try:
            line = json.loads(text)
            step = int(line.pop("step"))
            values = {str(name): float(value) for name, value in line.items()}
        except (ValueError, TypeError, KeyError, AttributeError):
            self.damaged += 1
            return
        self.last_step = max(self.last_step, step)
        for name, value in values.items():
            if self._skip and name.startswith(self._skip):
                continue
            if name not in self._curves:
                if len(self._curves) == MOST_CURVES:
                    self.left_out.add(name)
                    continue
                self._curves[name] = Curve(self._most)
            self._curves[name].add(step, value)
