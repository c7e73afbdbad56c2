"""Tiny runs in a bucket that are killed at what they write."""

import signal

from mmdiffusion_jax import files
from mmdiffusion_jax.files import leases
from tests.faults import tiny
from tests.processes import TINY, Running


def live(store, place, log, at_write=None, is_lost=False, prepare=()):
    """A tiny run, killed −9 at a write that then is lost or not; its exit status and words."""
    run = Running(TINY, f"--workdir={place}", log=log, prepare=prepare)
    if at_write is not None:
        store.proxy.at_write(at_write, lambda: run.send(signal.SIGKILL), is_lost)
    try:
        return run.wait(), run.said
    finally:
        store.proxy.at_write(0, None)


def harass(store, place, log, draw, lives):
    """Kills a run at random writes, so many times, and lets it end; how often it was killed."""
    killed = 0
    for _ in range(lives):
        status, said = live(store, place, log, draw.randint(1, 60), draw.random() < 0.5)
        assert "Traceback" not in said
        assert status in (0, -signal.SIGKILL), said
        killed += status != 0
        if status == 0:
            return killed
    status, said = live(store, place, log)
    assert status == 0, said
    return killed


def outcome(place):
    """What a tiny run has left."""
    return tiny.outcome(files.to_path(place))


def shorten_leases(seconds):
    """In the process that is to run."""
    leases.SECONDS = seconds
