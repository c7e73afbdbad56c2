"""Sides for the tests of the harness: they count, sleep, refuse or die."""

import os
import sys
import threading
import time

from benchmarks.speed.worker import Arms, Unavailable


def sleeper(milliseconds: float) -> Arms:
    """Each piece of work sleeps."""
    return {"work": lambda count: time.sleep(count * milliseconds / 1e3)}


def counter() -> Arms:
    """`work` counts its pieces; a thread counts on its own, between turns too if it may."""
    beats = [0]

    def beat() -> None:
        while True:
            time.sleep(0.001)
            beats[0] += 1

    threading.Thread(target=beat, daemon=True).start()
    done = []

    def work(count: int) -> int:
        done.append(count)
        return sum(done)

    return {"work": work, "beats": lambda _: beats[0]}


def refuses() -> Arms:
    """Cannot run anywhere."""
    raise Unavailable("there is no such thing here")


def dies() -> Arms:
    """Ends in its first turn."""

    def work(count: int) -> None:
        print("these were its last words", count, file=sys.stderr, flush=True)
        os._exit(3)

    return {"work": work}
