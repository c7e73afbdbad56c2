"""How a launch script starts and ends."""

import logging as stdlib_logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

import jax
from absl import app, logging

from mmdiffusion_jax import experiment


def start(main: Callable[[list[str]], None]) -> None:
    """Runs a launch script: a compilation cache, and one line for bad input or a stop.

    The cache lives in `JAX_COMPILATION_CACHE_DIR`, or in the user's own cache folder.
    """

    def guarded(argv: list[str]) -> None:
        logging.set_verbosity(logging.INFO)
        logging.get_absl_handler().addFilter(_is_worth_reading)
        folder = os.environ.get("JAX_COMPILATION_CACHE_DIR", "~/.cache/mmdiffusion_jax/xla")
        jax.config.update("jax_compilation_cache_dir", str(Path(folder).expanduser()))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
        try:
            main(argv)
        except (ValueError, FloatingPointError) as error:
            if logging.level_debug():
                raise
            sys.exit(f"error: {error}")
        except KeyboardInterrupt as stop:
            sys.exit(f"stopped: {stop}")

    try:
        app.run(guarded)
    except (AttributeError, KeyError, TypeError):
        # A flag such as --config.x for a key the config lacks fails while flags are parsed.
        unknown = experiment.unknown_override(sys.argv[1:])
        if unknown is None:
            raise
        sys.exit(f"error: {unknown}")


def _is_worth_reading(record: stdlib_logging.LogRecord) -> bool:
    """Our own messages, and errors of the libraries underneath."""
    ours = Path(record.pathname).is_relative_to(Path(__file__).parents[1])
    return ours or record.levelno >= stdlib_logging.ERROR
