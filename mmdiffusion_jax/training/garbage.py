"""Lets Python look for unreachable objects less often."""

import contextlib
import gc
from collections.abc import Iterator

# Python's own are 700 (2,000 in later versions), 10 and 10.
_THRESHOLDS = (100_000, 20, 50)


@contextlib.contextmanager
def rare_collections() -> Iterator[None]:
    """Within it Python's garbage collector runs after 100,000 new objects, not after some hundreds.

    Tracing a model makes millions of objects that stay, and each collection looks through those of
    before: a third of the time of tracing. What is no longer referenced is freed at once as ever;
    the collector is for objects that refer to each other. The thresholds of before come back.

    Example:
        >>> before = gc.get_threshold()
        >>> with rare_collections():
        ...     gc.get_threshold()[0]
        100000
        >>> gc.get_threshold() == before
        True
    """
    before = gc.get_threshold()
    gc.set_threshold(*_THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
