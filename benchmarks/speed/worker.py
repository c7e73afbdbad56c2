"""One side of a measurement: a process that does its work only when it is told to.

A side is named by a function "module:function". What it returns is the process's arms, {name:
count → value}: an arm does its work `count` times and has ended all of it when it returns.
"""

import importlib
import json
import sys
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

Arms = Mapping[str, Callable[[int], Any]]


class Unavailable(Exception):
    """What a side raises where it cannot run; its words stand in the table."""


class Reply(NamedTuple):
    """What one turn took.

    Attributes:
        seconds: on the clock.
        cpu_seconds: of all threads of the process.
        value: what the arm returned.
    """

    seconds: float
    cpu_seconds: float
    value: Any = None


def serve(connection: Connection, arms: Arms) -> None:
    """Answers (arm, count) with a `Reply` until the other end is closed."""
    while True:
        try:
            name, count = connection.recv()
        except EOFError:
            return
        cpu, begun = time.process_time(), time.perf_counter()
        value = arms[name](count)
        seconds = time.perf_counter() - begun
        connection.send(Reply(seconds, time.process_time() - cpu, value))


def main(number: str, target: str, options: str) -> None:
    """Makes the arms, says so over the inherited socket, and serves them."""
    with Connection(int(number)) as connection:
        module, _, function = target.partition(":")
        try:
            arms = getattr(importlib.import_module(module), function)(**json.loads(options))
            connection.send(sorted(arms))
            serve(connection, arms)
        except Unavailable as reason:
            connection.send(reason)


if __name__ == "__main__":
    # Under its own name, so that both ends know the same classes.
    from benchmarks.speed import worker

    worker.main(*sys.argv[1:])
