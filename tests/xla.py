"""Flags of XLA, which ends a process without a word at one that it does not know."""

import functools
import importlib.util
import mmap
from pathlib import Path

OPTIMISED = {"xla_backend_optimization_level": 3}
"""Compiler options of a program that runs for longer unoptimised than it compiles optimised."""


def known(*flags):
    """Those of the flags that the installed jaxlib knows, as XLA_FLAGS wants them.

    They are looked for in its libraries, as asking XLA would end this process.
    """
    return " ".join(flag for flag in flags if _is_known(flag.removeprefix("--").split("=")[0]))


@functools.cache
def _is_known(name):
    folder = Path(importlib.util.find_spec("jaxlib").origin).parent
    # XLA is in the largest; its name has changed.
    largest = max(
        (file for file in folder.rglob("*") if file.suffix in (".so", ".dylib", ".pyd", ".dll")),
        key=lambda file: file.stat().st_size,
    )
    with (
        largest.open("rb") as stream,
        mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        return content.find(b"\0" + name.encode() + b"\0") >= 0
