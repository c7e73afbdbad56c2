"""Scripts in processes of their own that start at once, as all is imported before they fork."""

import atexit
import multiprocessing
import os
import runpy
import socket
import sys
import threading
import time
from pathlib import Path

from tqdm import tqdm

_CONTEXT = multiprocessing.get_context("forkserver")
# The last two are what a run imports when it needs them; tensorboardX imports PyTorch.
_CONTEXT.set_forkserver_preload(
    ["mmdiffusion_jax.apps", "mmdiffusion_jax.data.digits", "tensorboardX"]
)

TINY = "tests/faults/tiny_train.py"


class Running:
    """A script under way.

    Attributes:
        pid: of its process.
    """

    def __init__(self, script, *arguments, log, errors=None, environment=None, prepare=()):
        """What it says goes to `log`, and to `errors` what it says there, if given.

        `environment` is what it finds in place of ours, but for what importing JAX has read;
        `prepare` is a function and its arguments, called in the process before the script.
        """
        self._log = Path(log)
        arguments = [str(argument) for argument in arguments]
        environment = dict(environment or os.environ)
        self._process = _CONTEXT.Process(
            target=_child, args=(script, arguments, log, errors or log, environment, prepare)
        )
        self._process.start()
        self.pid = self._process.pid

    def wait(self, seconds=120):
        """The exit status, negative for a signal."""
        self._process.join(seconds)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()
            raise AssertionError(f"it hangs; it said: {self.said}")
        return self._process.exitcode

    def until(self, words, seconds=120):
        """Waits until it has said something."""
        deadline = time.monotonic() + seconds
        while words not in self.said:
            assert time.monotonic() < deadline, self.said
            assert self._process.is_alive(), self.said
            time.sleep(0.02)

    def is_alive(self):
        return self._process.is_alive()

    def send(self, number):
        os.kill(self.pid, number)

    @property
    def said(self):
        return self._log.read_text() if self._log.exists() else ""

    @property
    def last_words(self):
        return self.said.rstrip().splitlines()[-1]


def together(count, script, *arguments, folder, prepare):
    """As many processes as one run; `prepare` is {process: function and arguments}."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    joined = (f"--coordinator=localhost:{port}", f"--num_processes={count}")
    return [
        Running(
            script,
            *arguments,
            *joined,
            f"--process_id={index}",
            log=folder / f"log-{index}",
            prepare=prepare.get(index, ()),
        )
        for index in range(count)
    ]


def _child(script, arguments, log, errors, environment, prepare):
    for descriptor, file in ((2, errors), (1, log)):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND), descriptor)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [script, *arguments]
    # Its own is shared between processes, and outlives those that are killed.
    tqdm.set_lock(threading.RLock())
    try:
        if prepare:
            prepare[0](*prepare[1:])
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
            sys.exit(1)
        raise
    finally:
        # What a Python that was not forked does at its end.
        atexit._run_exitfuncs()
