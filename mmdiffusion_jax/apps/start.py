"""How a launch script starts and ends."""

import contextlib
import errno
import logging as stdlib_logging
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import jax
from absl import app, flags, logging
from ml_collections import ConfigDict

from mmdiffusion_jax import errors, experiment, files, shipped
from mmdiffusion_jax.training import CheckpointError, rare_collections
from mmdiffusion_jax.training.preemption import Interrupt

RESTART_CODE = 75
"""A launch script's exit status when the same command is to be run again: it was stopped and has
saved, or another process of its run is gone."""


def start(main: Callable[[list[str]], None]) -> None:
    """Runs a launch script: a compilation cache, and one line for bad input or a stop.

    The cache lives in `JAX_COMPILATION_CACHE_DIR`, or in the user's own cache folder.
    """

    def guarded(argv: list[str]) -> None:
        logging.set_verbosity(logging.INFO)
        logging.get_absl_handler().addFilter(_is_worth_reading)
        sys.unraisablehook = _report_ignored
        # While training takes steps, its `StopSignal` takes this one's place.
        signal.signal(signal.SIGTERM, Interrupt())
        folder = os.environ.get("JAX_COMPILATION_CACHE_DIR", "~/.cache/mmdiffusion_jax/xla")
        # Which may be a URL: JAX writes it through a library that knows some.
        jax.config.update("jax_compilation_cache_dir", os.path.expanduser(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
        try:
            with rare_collections():
                main(argv)
            # All is done and saved, and nothing is left to be stopped while Python ends.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            return
        except (ValueError, FloatingPointError, CheckpointError) as error:
            if logging.level_debug():
                raise
            # A collective that fails is at times a ValueError, which begins with its status.
            lost = jax.process_count() > 1 and re.match("[A-Z_]+: ", str(error))
            words, code = _of_the_run(error) if lost else (f"error: {error}", 1)
        except OSError as error:
            words, code = f"error: {_of_the_system(error)}", 1
        except jax.errors.JaxRuntimeError as error:
            if jax.process_count() == 1:
                raise
            words, code = _of_the_run(error)
        except KeyboardInterrupt as stop:
            words, code = f"stopped by {str(stop) or 'Ctrl-C'}; run again to go on", RESTART_CODE
        # After the `except` no traceback keeps the run's files open.
        _end(words, code)

    app.run(guarded, flags_parser=_parse_flags)


def _parse_flags(argv: list[str]) -> list[str]:
    """Parses the flags; a bad one, or a config that cannot be read, ends in one line."""
    try:
        # The library that reads the file looks at these again, for its overrides.
        argv[1:] = sys.argv[1:] = list(_with_paths(argv[1:]))
        if place := experiment.config_place(argv[1:]):
            sys.path.insert(0, str(experiment.import_root(place)))
            # A config of another folder may build on `configs`, which lies beside the scripts.
            sys.path.append(str(Path(argv[0]).resolve().parent.parent))
        rest = flags.FLAGS(argv)
        config = flags.FLAGS["config"].value if _has_config_file() else None
        if isinstance(config, ConfigDict) or config is None:
            return rest
        words = _bad_config(argv[1:]) or "`config`: it cannot be read"
    except Exception as error:
        of_config = _bad_config(argv[1:])
        if of_config is None and not isinstance(error, flags.Error | ValueError):
            raise
        words = of_config or f"{' '.join(str(error).split())} (--help lists the flags)"
    sys.exit(f"error: {words}")


def _with_paths(arguments: list[str]) -> Iterator[str]:
    """The arguments, with the file of --config where it is below `~` or named as a shipped one."""
    before = ""
    for argument in arguments:
        flag, mark, value = argument.partition("=")
        if before in ("--config", "-config"):
            argument = shipped.config_file(argument)
        elif mark and flag in ("--config", "-config"):
            if value.startswith("~"):
                value = str(files.local_path(value, "config"))
            argument = f"{flag}={shipped.config_file(value)}"
        before = argument
        yield argument


def _has_config_file() -> bool:
    """Whether --config names a file that is read while flags are parsed."""
    return "config" in flags.FLAGS and flags.FLAGS["config"].flag_type() == "config object"


def _bad_config(arguments: list[str]) -> str | None:
    """What is wrong with the config file, or with the keys that are set in it."""
    try:
        return experiment.unknown_override(arguments) if _has_config_file() else None
    except ValueError as error:
        return str(error)


def _of_the_run(error: Exception) -> tuple[str, int]:
    """The words and the exit status where processes have lost each other."""
    words = (
        "stopped: another process of this run is gone, or cannot be reached "
        f"({str(error).splitlines()[0][:200]}); run all of them again: they go on from the "
        "last checkpoint"
    )
    return words, RESTART_CODE


def _of_the_system(error: OSError) -> str:
    """An error of files or disks, worded as all others."""
    if error.errno is None:
        return str(error)
    mend = "make room" if error.errno == errno.ENOSPC else "mend it"
    missing = error.errno in (errno.ENOENT, errno.ENOTDIR)
    return errors.message(
        error.filename or "disk",
        error.strerror or str(error),
        "a path that is there" if missing else "a file that can be read and written",
        f"{mend} and run again: what was committed is kept",
    )


def _end(words: str, code: int) -> NoReturn:
    """Prints one line and ends the process at once, without waiting for threads.

    The run has closed its files by now, but threads of libraries may still wait for a full disk or
    for a process that is gone.
    """
    print(words, file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(code)


def _report_ignored(ignored: "sys.UnraisableHookArgs") -> None:
    """Prints what Python cannot raise, but for the rest of a save or read that has failed already.

    A signal that came where nothing can be raised, such as in the garbage collector, is sent again.
    """
    if isinstance(ignored.exc_value, KeyboardInterrupt):
        number = signal.Signals[str(ignored.exc_value) or "SIGINT"]
        threading.Timer(0.05, os.kill, (os.getpid(), number)).start()
        return
    code = getattr(ignored.object, "cr_code", None)
    of_orbax = code is not None and "orbax" in Path(code.co_filename).parts
    if not of_orbax and str(ignored.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(ignored)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Leaves out what other libraries log, but for errors: Orbax warns of folders it only reads."""
    logger = logging.get_absl_logger()
    logger.addFilter(_is_worth_reading)
    try:
        yield
    finally:
        logger.removeFilter(_is_worth_reading)


def _is_worth_reading(record: stdlib_logging.LogRecord) -> bool:
    """Whether a message is this package's, or an error of another library."""
    path = Path(record.pathname)
    if path.is_relative_to(Path(__file__).parents[1]):
        return True
    # Orbax raises what it logs, and logs it once a thread and once a task.
    return record.levelno >= stdlib_logging.ERROR and not {"orbax", "asyncio"} & {*path.parts}
