"""Text that grows line by line: a file, or objects in a bucket that are read as one.

No object grows. In a bucket FILE has the lines that it was opened with, and FILE.parts those since
then, in objects that are put anew while they are small. A line that is in several, as when a
process is killed while it puts them together, counts once.
"""

import time
from collections.abc import Iterable
from pathlib import Path

from mmdiffusion_jax.files.buckets import BucketPath, store
from mmdiffusion_jax.files.whole import naming, replacing, write_text

# Google's stores take one put a second of the same object.
_PAUSE_SECONDS, _PART_BYTES = 1.5, 2**16


def read_lines(file: Path) -> bytes:
    """The bytes of a file that `LineWriter` writes.

    Raises:
        FileNotFoundError: it is not there.

    Example:
        >>> len(read_lines(Path("setup.py"))) > 0
        True
    """
    if not isinstance(file, BucketPath):
        return file.read_bytes()
    whole = file.read_bytes()
    if parts := _parts(file):
        contents = store(file).cat([str(part) for part in parts])
        whole += b"".join(text for _, text in sorted(contents.items()))
    return b"".join(dict.fromkeys(whole.splitlines(keepends=True)))


class LineWriter:
    r"""Appends lines.

    Args:
        file: may be there.
        kept: the lines that it is to begin with, in place of those it has.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp(), "a.jsonl")
        >>> writer = LineWriter(file)
        >>> writer.append("1\n")
        >>> writer.close()
        >>> read_lines(file)
        b'1\n'
    """

    def __init__(self, file: Path, kept: Iterable[bytes] = ()) -> None:
        self._file, self._number = file, 0
        self._in_bucket = isinstance(file, BucketPath)
        self._text, self._waits, self._put = "", False, -float("inf")
        with replacing(file) as stream:
            stream.writelines(kept)
        if self._in_bucket:
            for part in _parts(file):
                part.unlink(missing_ok=True)
        else:
            self._stream = file.open("a", encoding="utf-8")

    def append(self, line: str) -> None:
        """Writes a line, at once or, in a bucket that got one a moment ago, with a later one."""
        if not self._in_bucket:
            with naming(self._file):
                self._stream.write(line)
                self._stream.flush()
            return
        self._text, self._waits = self._text + line, True
        if time.monotonic() - self._put > _PAUSE_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Writes the lines that wait."""
        if not self._waits:
            return
        write_text(_part(self._file, self._number), self._text)
        self._put, self._waits = time.monotonic(), False
        if len(self._text) > _PART_BYTES:
            self._number, self._text = self._number + 1, ""

    def close(self) -> None:
        """Writes the lines that wait, and closes the file."""
        self.flush()
        if not self._in_bucket:
            with naming(self._file):
                self._stream.close()


def _parts(file: Path) -> list[Path]:
    """The parts of an object, in their order."""
    return sorted(_part(file, 0).parent.glob("*.jsonl"))


def _part(file: Path, number: int) -> Path:
    return file.with_name(f"{file.name}.parts") / f"{number:08d}.jsonl"
