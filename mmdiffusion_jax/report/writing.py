"""When pages are written, and what happens where they cannot be."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
from absl import logging

from mmdiffusion_jax.report import history
from mmdiffusion_jax.report.comparison import is_comparison, write_comparison
from mmdiffusion_jax.report.run import FILE, RunPage


def write(folder: Path, out: Path | None = None) -> None:
    """Writes the page of a run or a comparison, whole or not at all.

    Args:
        folder: the workdir.
        out: the file of the page; left out, `report.html` in the workdir.

    Raises:
        OSError: a file cannot be read or written.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> write(folder)
        >>> "Not finished" in (folder / "report.html").read_text()
        True
    """
    if is_comparison(folder):
        write_comparison(folder, out)
    else:
        RunPage(folder, out).write()


def try_to_write(folder: Path) -> None:
    """Writes a page that work does not depend on: where that fails, there is a warning.

    Args:
        folder: the workdir of a run or of a comparison.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> try_to_write(folder)
        >>> (folder / "report.html").exists()
        True
    """
    _Attempts(folder).attempt(lambda: write(folder))


@contextlib.contextmanager
def live(folder: Path) -> Iterator[Callable[[int], None] | None]:
    """Keeps the page of a run up to date while a block trains it.

    The page is written at the beginning, whenever what is yielded is called with a step, and at
    the end, also after an error, which it names. A page that cannot be written is a warning, given
    once, and the run goes on.

    Args:
        folder: the workdir.

    Yields:
        What `training.Monitor.written` takes; None in all processes but the first.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with live(folder) as written:
        ...     written(5)
        >>> "step 5" in (folder / "report.html").read_text()
        True
    """
    if jax.process_index() > 0:
        yield None
        return
    page, attempts, reached = RunPage(folder), _Attempts(folder), 0

    def written(step: int) -> None:
        nonlocal reached
        reached = step
        attempts.attempt(lambda: page.write(step))

    def ended(outcome: str) -> None:
        attempts.attempt(lambda: history.end(folder, outcome))
        attempts.attempt(lambda: page.write(reached))

    attempts.attempt(lambda: history.begin(folder))
    attempts.attempt(page.write)
    try:
        yield written
    except Exception as error:
        ended(f"{error}" or type(error).__name__)
        raise
    ended("")


class _Attempts:
    """Calls whose failures are a warning, given once."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._has_warned = folder, False

    def attempt(self, call: Callable[[], None]) -> None:
        # What pages show comes from files that others may have changed.
        try:
            call()
        except Exception as error:
            if not self._has_warned:
                file, kind = self._folder / FILE, type(error).__name__
                logging.warning("%s is not up to date (%s: %s).", file, kind, error)
            self._has_warned = True
