"""Joins several processes into one run, by flags or by the environment."""

import dataclasses
import glob
import os
from collections.abc import Callable, Mapping

import jax
from absl import flags, logging

from mmdiffusion_jax import errors, ranges

# The flags belong to the launch script that has them defined, whose --help shows them.
flags.disclaim_key_flags()

MODES = ("auto", "off", "on")

# A process that is gone is noticed within this time.
_HEARTBEAT_SECONDS = 30


@dataclasses.dataclass(frozen=True)
class Processes:
    """How a process joins a run of several.

    Attributes:
        mode: "off" for one process; "on" where JAX must find others; "auto" to join others that the
            environment names.
        coordinator: HOST:PORT of process 0, together with the next two.
        num_processes: in all.
        process_id: this one, from 0.

    Raises:
        ValueError: an unknown mode, or some of the last three without the others.

    Example:
        >>> Processes(coordinator="localhost:1234", num_processes=2)
        Traceback (most recent call last):
        ...
        ValueError: `process_id`: got nothing, expected all of coordinator, ...
    """

    mode: str = "auto"
    coordinator: str | None = None
    num_processes: int | None = None
    process_id: int | None = None

    def __post_init__(self) -> None:
        ranges.check_one_of("distributed", self.mode, MODES)
        named = ("coordinator", "num_processes", "process_id")
        missing = [name for name in named if getattr(self, name) is None]
        if missing and len(missing) < len(named):
            raise errors.invalid(
                missing[0], "nothing", f"all of {', '.join(named)}, or none of them", "add it"
            )
        count, index = self.num_processes or 1, self.process_id or 0
        if not 0 <= index < count:
            raise errors.invalid("process_id", index, f"0 … {count - 1} of {count}", "correct it")


def how_to_join(
    processes: Processes, environment: Mapping[str, str], has_tpu: bool
) -> dict[str, object] | None:
    """The arguments of `jax.distributed.initialize`, or None where there is nothing to join.

    Under SLURM a process joins the other tasks of its step; JAX reads the rest from SLURM's
    variables. On a TPU JAX asks the machine for the other hosts of its slice; a single host has
    none.

    Example:
        >>> how_to_join(Processes(), {}, has_tpu=False) is None
        True
        >>> step = {"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "4"}
        >>> how_to_join(Processes(), step, has_tpu=False)
        {}
        >>> how_to_join(Processes(coordinator="a:1", num_processes=2, process_id=0), {}, False)
        {'coordinator_address': 'a:1', 'num_processes': 2, 'process_id': 0}
    """
    if processes.mode == "off":
        return None
    if processes.coordinator is not None:
        return {
            "coordinator_address": processes.coordinator,
            "num_processes": processes.num_processes,
            "process_id": processes.process_id,
        }
    tasks = environment.get("SLURM_STEP_NUM_TASKS") or environment.get("SLURM_NTASKS") or "1"
    of_slurm = "SLURM_PROCID" in environment and tasks.isdecimal() and int(tasks) > 1
    return {} if processes.mode == "on" or of_slurm or has_tpu else None


def join(processes: Processes) -> None:
    """Joins the other processes of this run, if there are any; call it before JAX is used.

    Raises:
        ValueError: the others were not found, or did not all connect.
    """
    has_tpu = bool(glob.glob("/dev/accel[0-9]*") or os.environ.get("TPU_WORKER_HOSTNAMES"))
    arguments = how_to_join(processes, os.environ, has_tpu)
    if arguments is None:
        return
    try:
        jax.distributed.initialize(
            **arguments,  # type: ignore[arg-type]
            heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=_HEARTBEAT_SECONDS,
        )
    except (ValueError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise errors.invalid(
            "distributed",
            f"{processes.mode!r} with {arguments or 'nothing but the environment'} ({first})",
            "processes that find each other",
            "name coordinator, num_processes and process_id, or use --distributed=off",
        ) from error
    logging.info("Process %d of %d.", jax.process_index(), jax.process_count())


def define_distributed_flags() -> Callable[[], Processes]:
    """Defines the flags of a launch script that several processes can run together.

    Returns:
        A function that gives, after parsing, how the process joins.
    """
    mode = flags.DEFINE_enum(
        "distributed", "auto", MODES, "Several processes: look for them, never, or always."
    )
    coordinator = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0.")
    count = flags.DEFINE_integer("num_processes", None, "How many, with --coordinator.")
    index = flags.DEFINE_integer("process_id", None, "Which this is, with --coordinator.")
    return lambda: Processes(mode.value, coordinator.value, count.value, index.value)
