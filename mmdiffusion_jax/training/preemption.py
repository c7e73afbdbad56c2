"""SIGTERM and Ctrl-C end a run after a step, with a checkpoint."""

import signal
import threading
from types import FrameType
from typing import NoReturn, Self

import jax
from jax.experimental import multihost_utils


class Interrupt:
    """A handler that raises `KeyboardInterrupt` with the signal's name, and remembers that it did.

    Libraries have clauses that catch every error, this one too; a `StopSignal` that takes this
    handler's place later still learns of the signal.

    Attributes:
        received: whether a signal has come.

    Example:
        >>> import contextlib
        >>> handler = Interrupt()
        >>> with contextlib.suppress(BaseException):
        ...     handler(signal.SIGTERM, None)
        >>> handler.received
        True
    """

    def __init__(self) -> None:
        self.received = False

    def __call__(self, number: int, frame: FrameType | None) -> NoReturn:
        """Raises `KeyboardInterrupt`; `signal.signal` takes this object for a handler."""
        self.received = True
        raise KeyboardInterrupt(signal.Signals(number).name)


class StopSignal:
    """Listens for SIGTERM and SIGINT while it is entered; a second SIGINT interrupts at once.

    Outside the main thread, where signals cannot be caught, it never fires. In a run of several
    processes JAX's own service passes SIGTERM on to all, with a step that none of them has begun;
    Ctrl-C then interrupts at once.

    Attributes:
        received: whether this process has had a signal, here or in the `Interrupt` before it.

    Example:
        >>> with StopSignal() as stop:
        ...     stop.requested(1)
        False
    """

    def __init__(self) -> None:
        self.received = False
        self._shared = jax.process_count() > 1
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        if not self._shared and threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                before = self._before[number] = signal.signal(number, self._receive)
                self.received |= isinstance(before, Interrupt) and before.received
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def requested(self, step: int) -> bool:
        """Whether the run is to end with this step; all processes call it once a step, in order."""
        if self._shared:
            return bool(multihost_utils.reached_preemption_sync_point(step))
        return self.received

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = True
