"""CSV files about pictures: a header that names the columns, and a row a picture or class."""

import csv
import io
import os
from collections.abc import Iterator, Sequence

from mmdiffusion_jax import errors, files

_SEPARATORS = (",", ";", "\t")


def read_rows(
    argument: str, path: str | os.PathLike[str], columns: Sequence[str]
) -> Iterator[tuple[int, tuple[str, ...]]]:
    r"""The rows of a CSV file in UTF-8, as (line, the values of some columns).

    Values are without outer spaces. Separators are commas, semicolons or tabs, as the header has
    them. Empty lines, other columns and a byte order mark are left alone.

    Args:
        argument: what errors call the file.
        path: of the file.
        columns: their names in the header.

    Raises:
        ValueError: no such file, no UTF-8, a header without these columns, or a row that is shorter
            or longer than it.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "labels.csv")
        ...     _ = path.write_text("file,label\ncats/1.jpg,cat\n")
        ...     list(read_rows("labels", path, ("file", "label")))
        [(2, ('cats/1.jpg', 'cat'))]
    """
    file = files.local_path(path, argument)
    expected = f"a CSV file with the header {','.join(columns)}"
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = "no UTF-8" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise errors.invalid(argument, f"{str(path)!r} ({reason})", expected, "mend it") from error
    first = text.partition("\n")[0]
    separator = max(_SEPARATORS, key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    header = [name.strip().lower() for name in next(reader, [])]
    if not set(columns) <= set(header):
        raise errors.invalid(
            argument, f"{str(path)!r} with the header {first.strip()!r}", expected, "add it"
        )
    places = [header.index(column) for column in columns]
    for row in reader:
        if not any(value.strip() for value in row):
            continue
        if len(row) != len(header):
            raise errors.invalid(
                argument,
                f"{str(path)!r}, line {reader.line_num}, with {len(row)} values",
                f"{len(header)}, as the header has",
                "put values with a separator in them into quotes",
            )
        yield reader.line_num, tuple(row[place].strip() for place in places)
