"""How tests compile: with flags of XLA that this jaxlib knows, and in shared contexts of MLIR.

XLA ends a process without a word at a flag that it does not know.
"""

import functools
import importlib.util
import mmap
import threading
from pathlib import Path

OPTIMISED = {"xla_backend_optimization_level": 3}
"""Compiler options of a program that runs for longer unoptimised than it compiles optimised."""


def known(*flags):
    """Those of the flags that the installed jaxlib knows, as XLA_FLAGS wants them.

    They are looked for in its libraries, as asking XLA would end this process.
    """
    return " ".join(flag for flag in flags if _is_known(flag.removeprefix("--").split("=")[0]))


def share_contexts():
    """Has JAX write all programs of a thread in one context of MLIR.

    It makes one for each, with all dialects: a fifth of the time of tests that compile hundreds of
    programs of one operation.
    """
    from jax._src.interpreters import mlir

    make, of_thread = getattr(mlir, "make_ir_context", None), threading.local()

    def context():
        if not hasattr(of_thread, "context"):
            of_thread.context = make()
        return of_thread.context

    if make is not None:
        mlir.make_ir_context = context


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
