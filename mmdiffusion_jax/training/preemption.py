"""A polite stop: SIGTERM and Ctrl-C end the run after a step, with a checkpoint."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Self

import jax
from jax.experimental import multihost_utils


class StopSignal:
    """Listens for SIGTERM and SIGINT while it is entered; a second SIGINT interrupts at once.

    Outside the main thread, where signals cannot be caught, it never fires. In a run of several
    processes SIGTERM to any of them is passed on to all by JAX's own service, which names a step
    that none of them has begun; Ctrl-C then interrupts at once.

    Attributes:
        received: whether this process has had a signal.

    Example:
        >>> with StopSignal() as stop:
        ...     stop.asked(1)
        False
    """

    def __init__(self) -> None:
        self.received = False
        self._shared = jax.process_count() > 1
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        if not self._shared and threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def asked(self, step: int) -> bool:
        """Whether the run is to end with this step; to be called once at every step, in order.

        Args:
            step: the step; the same on all processes.
        """
        if self._shared:
            return bool(multihost_utils.reached_preemption_sync_point(step))
        return self.received

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = True
