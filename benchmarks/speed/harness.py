"""Times in turns: every side in a process of its own, and stopped while another is measured."""

import contextlib
import json
import math
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from benchmarks.speed.worker import Reply, Unavailable

ROOT = Path(__file__).resolve().parents[2]
_LAST_WORDS = 2000


class Worker:
    """A process with one side's arms; it sleeps but for its turns. Use it as a context manager.

    Args:
        target: "module:function" that makes the arms.
        options: keywords of that function, as JSON can carry them.
        environment: variables beside those inherited.
        python: the interpreter; left out, this one.

    Raises:
        OSError: there is no such interpreter.
        Unavailable: the side cannot run here.
        RuntimeError: it died; with its last words.
    """

    def __init__(
        self,
        target: str,
        options: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
        python: str = sys.executable,
    ) -> None:
        self._target = target
        # Closed with the process; `with` would close it at once.
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        paths = filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])
        ours, theirs = socket.socketpair()
        with theirs:
            command = [python, "-m", "benchmarks.speed.worker", str(theirs.fileno())]
            self._process = subprocess.Popen(
                [*command, target, json.dumps(dict(options or {}))],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), **(environment or {})},
                pass_fds=[theirs.fileno()],
                # A group, as loaders and compilers have processes too; the kernel ends a stopped
                # group whose parent is gone, unless it has a session of its own.
                process_group=0,
                stdout=self._errors,
                stderr=self._errors,
            )
        self._connection = Connection(ours.detach())
        try:
            self.arms = self._receive()
        except BaseException:
            self.close()
            raise
        self._stop()

    def run(self, arm: str, count: int = 1) -> Reply:
        """Lets an arm do its work so many times.

        Raises:
            RuntimeError: the process died.
        """
        os.killpg(self._process.pid, signal.SIGCONT)
        self._connection.send((arm, count))
        reply: Reply = self._receive()
        self._stop()
        return reply

    def close(self) -> None:
        """Ends the process."""
        self._connection.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._errors.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _stop(self) -> None:
        # Threads that spin, read ahead or write behind would take time from the other side.
        os.killpg(self._process.pid, signal.SIGSTOP)

    def _receive(self) -> Any:
        try:
            message = self._connection.recv()
        except (EOFError, ConnectionResetError):
            self._process.wait()
            self._errors.seek(0)
            words = self._errors.read().decode(errors="replace")[-_LAST_WORDS:]
            raise RuntimeError(f"{self._target} died:\n{words}") from None
        if isinstance(message, Unavailable):
            raise message
        return message


@contextlib.contextmanager
def workers(**sides: tuple[Any, ...]) -> Iterator[dict[str, Worker]]:
    """Starts a process for each side, {name: arguments of `Worker`}, and ends them."""
    with contextlib.ExitStack() as stack:
        yield {name: stack.enter_context(Worker(*given)) for name, given in sides.items()}


@dataclass(frozen=True)
class Pace:
    """How long a comparison takes.

    Attributes:
        rounds: in each of which every arm has one turn.
        seconds: that a turn takes at least.
        count: of pieces of work a turn; left out, as many as fill `seconds`.
    """

    rounds: int = 33
    seconds: float = 1.0
    count: int | None = None


class Measured(NamedTuple):
    """What turns took, a piece of work.

    Attributes:
        clock: {arm: seconds of each round}.
        processor: {arm: seconds of all threads in each round}, or nothing.
    """

    clock: Mapping[str, Sequence[float]]
    processor: Mapping[str, Sequence[float]]


def interleave(arms: Mapping[str, tuple[Worker, str]], pace: Pace) -> Measured:
    """Gives every arm a turn in each round: A B, B A, A B and so on.

    Every other round goes backwards, so that a machine that slows down slows all arms alike. Two
    turns of each come before the first round: one to compile, one to see how long it takes.

    Args:
        arms: {name: (process, its arm)}.
        pace: how long.
    """
    counts = {}
    for name, (worker, arm) in arms.items():
        worker.run(arm, 1)
        trial = worker.run(arm, 1)
        counts[name] = pace.count or max(1, math.ceil(pace.seconds / trial.seconds))
    clock: dict[str, list[float]] = {name: [] for name in arms}
    processor: dict[str, list[float]] = {name: [] for name in arms}
    for index in range(pace.rounds):
        for name in list(arms)[:: -1 if index % 2 else 1]:
            worker, arm = arms[name]
            reply = worker.run(arm, counts[name])
            clock[name].append(reply.seconds / counts[name])
            processor[name].append(reply.cpu_seconds / counts[name])
    return Measured(clock, processor)


def blocks(measured: Measured, turns: int) -> Measured:
    """The mean of so many turns in a row as one, where work of all kinds takes several turns.

    Args:
        measured: a multiple of `turns` an arm.
        turns: of a block.
    """
    return Measured(
        *(
            {name: np.reshape(x, (-1, turns)).mean(axis=1).tolist() for name, x in times.items()}
            for times in measured
        )
    )


@dataclass(frozen=True)
class Row:
    """One figure and how it came about.

    Attributes:
        value: the median of the rounds' ratios, or the figure itself where there are no rounds.
        spread: least value, quartiles and greatest of the rounds; empty without rounds.
        details: what else is worth keeping, as JSON can carry it.
    """

    value: float
    spread: tuple[float, ...]
    details: Mapping[str, Any]


def ratio(ours: str, theirs: str, measured: Measured, **details: Any) -> Row:
    """Our time over theirs, round by round.

    Args:
        ours: the name of our arm.
        theirs: the name of the arm it is held against.
        measured: from `interleave`.
        details: kept with the row.
    """
    pair = (ours, theirs)
    rounds = [a / b for a, b in zip(*(measured.clock[name] for name in pair), strict=True)]
    medians = {
        key: {name: statistics.median(times[name]) for name in pair}
        for key, times in (("seconds", measured.clock), ("cpu_seconds", measured.processor))
        if times
    }
    return Row(
        statistics.median(rounds), spread(rounds), {"rounds": len(rounds), **medians, **details}
    )


def spread(rounds: Sequence[float]) -> tuple[float, ...]:
    """The least value, the lower quartile, the upper one and the greatest."""
    if len(rounds) < 2:
        return (rounds[0],) * 4
    lower, _, upper = statistics.quantiles(rounds, n=4, method="inclusive")
    return min(rounds), lower, upper, max(rounds)
