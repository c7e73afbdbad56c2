"""A polite stop: SIGTERM and Ctrl-C end the run after the current step, with a checkpoint."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Self


class StopSignal:
    """Listens for SIGTERM and SIGINT while it is entered; a second SIGINT interrupts at once.

    Outside the main thread, where signals cannot be caught, it never fires.

    Example:
        >>> with StopSignal() as stop:
        ...     stop.received
        False
    """

    def __init__(self) -> None:
        self.received = False
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
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

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = True
