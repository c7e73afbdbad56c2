"""Trains a sweep: --config=configs/smoke.py --workdir=ROOT [--max_parallel=N] [-- --config.x=y].

The config's `get_sweep()` says what differs between the runs; flags after `--` are for all of them.
In place of training, --print prints the commands, --slurm the one that queues them on a cluster,
and --collect the table of what is there. Run again to go on.
"""

import shlex
import subprocess
import sys
from pathlib import Path

from absl import app, flags, logging

from mmdiffusion_jax import apps

_CONFIG = flags.DEFINE_string("config", None, "A config with a sweep: FILE[:FORM].", required=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Gets a folder for each run.", required=True)
_PARALLEL = flags.DEFINE_integer("max_parallel", None, "Runs at once: 1, under SLURM no limit.")
_RESTARTS = flags.DEFINE_integer("restarts", 3, "How often a run goes on after exit code 75.")
_METRICS = flags.DEFINE_list("metrics", None, "In the table; by default all of the evaluation.")
_PRINT = flags.DEFINE_bool("print", False, "Print the commands of runs that are not done.")
_COLLECT = flags.DEFINE_bool("collect", False, "Print the table alone.")
_SLURM = flags.DEFINE_bool("slurm", False, "Write the file of runs and print the sbatch command.")
_SUBMIT = flags.DEFINE_bool("submit", False, "With --slurm: run that command too.")
_SBATCH = flags.DEFINE_string("sbatch", "", "With --slurm: options such as '--time=12:00:00'.")


def main(argv: list[str]) -> None:
    """Parses the flags and runs the sweep."""
    if _SBATCH.value and not (_SLURM.value or _SUBMIT.value):
        raise app.UsageError("--sbatch without --slurm or --submit says nothing; give one of them")
    runs = apps.expand_sweep(_CONFIG.value, _WORKDIR.value, argv[1:])
    here = Path(__file__).parent
    train = [sys.executable, str(here / "train.py")]
    if _PRINT.value:
        print("\n".join(apps.sweep_commands(runs, train)))
    elif _SLURM.value or _SUBMIT.value:
        options, script = shlex.split(_SBATCH.value), str(here / "slurm.sbatch")
        command = apps.write_array(runs, _WORKDIR.value, script, _PARALLEL.value, options)
        print(shlex.join(command) or "All runs are done.")
        if _SUBMIT.value and command:
            sys.exit(subprocess.run(command, check=False).returncode)
    else:
        code, at_once = 0, 1 if _PARALLEL.value is None else _PARALLEL.value
        if not _COLLECT.value:
            code = apps.train_sweep(runs, train, at_once, _RESTARTS.value)
        try:
            print(apps.collect_sweep(runs, _WORKDIR.value, _METRICS.value))
        except ValueError as error:
            if not code:
                raise
            logging.error("%s", error)  # whoever starts it again goes by the code of the runs
        sys.exit(code)


if __name__ == "__main__":
    apps.start(main)
