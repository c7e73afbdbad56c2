"""Trains and judges all contenders, seed by seed, and writes the table."""

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import logging
from ml_collections import ConfigDict

from benchmarks.rivals import judge
from benchmarks.rivals.job import GIVEN, IMAGE, JOINT, LABEL_GIVEN_IMAGE, arm_name
from benchmarks.rivals.table import Run, table_of
from benchmarks.speed.harness import ROOT, Pace, Worker, interleave
from benchmarks.speed.worker import Unavailable
from mmdiffusion_jax import baselines, errors, evaluation, experiment, files, ranges
from mmdiffusion_jax.apps.compare_arms import Splits, real_data

OURS, HACKABLE, DDPM = "ours", "hackable-diffusion", "diffusers"

CONTENDERS: Mapping[str, str] = {
    OURS: "benchmarks.rivals.ours:arms",
    HACKABLE: "benchmarks.rivals.hackable:arms",
    DDPM: "benchmarks.rivals.ddpm:arms",
}
"""{name: what makes the arms of its process}; the first is ours."""

BUDGETS = ("steps", "time")
"""What all have the same of: steps of training, or time of it by the time of a step."""

# What the rival needs beside its own library, as far as the library does not bring it.
_NEEDED = ("hackable_diffusion", "filelock", "grain", "ml_collections", "safetensors")
# Of compiled programs, as that of the launchers; compilation is in no figure.
_CACHE = os.path.expanduser("~/.cache/mmdiffusion_jax/xla")
_PACE = Pace(rounds=9, seconds=2.0)
# Steps between two looks at the clock.
_STRIDE = 250


@dataclasses.dataclass(frozen=True)
class Options:
    """What is compared and how.

    Attributes:
        seeds: of the runs of each contender.
        budget: one of `BUDGETS`.
        contenders: names of `CONTENDERS`; ours always runs, and first.
        python: the interpreter of hackable-diffusion; "" for this one.
        more: how many times the config's number of calls the second number of calls is.
        pace: of the measurement of a step.

    Raises:
        ValueError: unknown names, no seed, a seed twice or out of its range, or a factor below 2.
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    budget: str = "steps"
    contenders: tuple[str, ...] = tuple(CONTENDERS)
    python: str = ""
    more: int = 4
    pace: Pace = _PACE

    def __post_init__(self) -> None:
        ranges.check_one_of("budget", self.budget, BUDGETS)
        ranges.check_whole("more", self.more, 2)
        for name in self.contenders:
            ranges.check_one_of("contenders", name, CONTENDERS)
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise errors.invalid("seeds", self.seeds, "one or more, each once", "change them")
        for seed in self.seeds:
            ranges.check_whole("seeds", seed, 0, ranges.MAX_SEED)

    @property
    def names(self) -> tuple[str, ...]:
        """The contenders in their order."""
        return tuple(name for name in CONTENDERS if name == OURS or name in self.contenders)

    def interpreter(self, name: str) -> str:
        """The interpreter of a contender's process."""
        return (name == HACKABLE and self.python) or sys.executable


class Comparison:
    """The runs in one folder.

    Args:
        config: of our model.
        splits: its data, training and test.
        folder: gets everything; what is there is read and not measured again.
        options: what is compared.
    """

    def __init__(self, config: ConfigDict, splits: Splits, folder: Path, options: Options) -> None:
        self._config, self._folder, self._options = config, folder, options
        self._built = experiment.build(config)
        self._real = real_data(config, splits, folder / "features.safetensors")
        self._data = folder / "data.npz"
        judge.write_data(self._data, splits[0], self._real, self._built.evaluation.num_samples)
        calls = self._built.sampling.num_steps or self._built.settings.process.num_steps
        self._calls = (calls, min(options.more * calls, self._built.settings.process.num_steps))
        self._left_out: dict[str, str] = {}

    def run(self) -> str:
        """Measures what a step takes, then trains, draws and judges; returns the table."""
        names = self._available(self._options.names)
        costs = self._measure(names)
        whole = self._built.training.num_steps
        parts = {name: {"": costs[name]} for name in names if name in costs}
        counts = baselines.equal_steps(parts, OURS, whole, self._options.budget)
        step_seconds = {name: costs[name].seconds for name in parts}
        runs: list[Run] = []
        table = ""
        for seed in self._options.seeds:
            for name in parts:
                runs.append(self._run(name, seed, counts[name]))
                table = table_of(runs, step_seconds, self._options.budget)
                table = f"{table}\n\n{self._about()}\n"
                files.write_text(self._folder / f"rivals-{self._options.budget}.md", table)
        return table

    def _available(self, names: Iterable[str]) -> list[str]:
        """The contenders whose interpreters are there; the others are left out with a reason."""
        if HACKABLE in names and (reason := reason_against(self._options.interpreter(HACKABLE))):
            self._leave_out(HACKABLE, reason)
        return [name for name in names if name not in self._left_out]

    def _leave_out(self, name: str, reason: str) -> None:
        self._left_out[name] = reason
        logging.warning("%s is left out: %s", name, reason)

    def _measure(self, names: Sequence[str]) -> dict[str, baselines.Cost]:
        """What a step of each takes, in turns; what an earlier call measured stands.

        A contender that comes later is measured beside ours, and its time is what the ratio makes
        of the time that ours took then.
        """
        file = self._folder / "costs.json"
        kept = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        missing = [name for name in names if name not in kept]
        if missing:
            workers = {}
            try:
                for name in dict.fromkeys([OURS, *missing]):
                    try:
                        workers[name] = self._start(name, 0, self._built.training.num_steps)
                    except Unavailable as reason:
                        self._leave_out(name, str(reason))
                sizes = {name: worker.run("size").value for name, worker in workers.items()}
                measured = interleave(
                    {name: (worker, "train") for name, worker in workers.items()},
                    self._options.pace,
                )
            finally:
                for worker in workers.values():
                    worker.close()
            medians = {name: sorted(x)[len(x) // 2] for name, x in measured.clock.items()}
            scale = kept[OURS]["seconds"] / medians[OURS] if OURS in kept else 1.0
            for name in missing:
                if name in medians:
                    cost = baselines.Cost(0.0, medians[name] * scale, sizes[name])
                    kept[name] = dataclasses.asdict(cost)
            files.write_text(file, json.dumps(kept, indent=1))
        return {name: baselines.Cost(**kept[name]) for name in names if name in kept}

    def _start(self, name: str, seed: int, num_steps: int, folder: Path | None = None) -> Worker:
        config = self._config.copy_and_resolve_references()
        config.seed, config.training.num_steps = seed, num_steps
        options = {
            "config": experiment.read_settings(config).to_dict(),
            "data": str(self._data.resolve()),
            "folder": str((folder or self._folder).resolve()),
            "num_parameters": self._num_parameters(),
            "calls": self._calls,
        }
        environment = {
            "JAX_COMPILATION_CACHE_DIR": os.environ.get("JAX_COMPILATION_CACHE_DIR", _CACHE),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.5",
        }
        if name == HACKABLE:
            # Flags of one version of XLA end another without a word.
            environment["XLA_FLAGS"] = ""
        python = self._options.interpreter(name)
        return Worker(CONTENDERS[name], options, environment, python)

    def _num_parameters(self) -> int:
        import jax

        shapes = jax.eval_shape(self._built.init, jax.random.key(0))
        return sum(leaf.size for leaf in jax.tree.leaves(shapes))

    def _run(self, name: str, seed: int, num_steps: int) -> Run:
        """Trains, draws and judges one run, or reads the figures of an earlier call."""
        folder = self._folder / f"{name}-{num_steps}-seed{seed}"
        file = folder / "figures.json"
        key = self._key()
        if file.exists():
            record = json.loads(file.read_text(encoding="utf-8"))
            if record["key"] == key:
                return Run(**record["run"])
        folder.mkdir(parents=True, exist_ok=True)
        logging.info("%s, seed %d: %d steps.", name, seed, num_steps)
        with self._start(name, seed, num_steps, folder) as worker:
            seconds = _train(worker, num_steps)
            size, versions = worker.run("size").value, worker.run("versions").value
            directions = [x for x in (JOINT, *GIVEN) if arm_name(x, self._calls[0]) in worker.arms]
            sample_seconds = {
                str(calls): self._draw(worker, directions, calls) for calls in self._calls
            }
        figures = {}
        for calls in self._calls:
            of_calls = judge.figures_of(self._real, folder, dict.fromkeys(directions, calls))
            figures[str(calls)] = evaluation.values_of(of_calls)
            judge.draw_sheet(self._built, folder, calls)
        run = Run(name, seed, num_steps, seconds, size, versions, figures, sample_seconds)
        record = {"key": key, "run": dataclasses.asdict(run)}
        files.write_text(file, json.dumps(record, indent=1))
        return run

    def _draw(self, worker: Worker, directions: Sequence[str], calls: int) -> float:
        """Draws all samples of so many calls and returns the seconds of a joint one."""
        count = self._built.evaluation.num_samples
        counts = dict.fromkeys(directions, count)
        if LABEL_GIVEN_IMAGE in counts:
            counts[LABEL_GIVEN_IMAGE] = min(count, len(self._real.test[IMAGE]))
        first = min(count, self._built.sampling.batch_size)
        worker.run(arm_name(JOINT, calls), first)  # which compiles
        seconds = {
            direction: worker.run(arm_name(direction, calls), n).seconds
            for direction, n in counts.items()
        }
        return seconds[JOINT] / count

    def _key(self) -> dict[str, Any]:
        """What figures depend on beside the run itself, as it comes back from a file."""
        settings = self._built.settings
        features = {"features": self._real.features_name}
        key = {
            "evaluation": dataclasses.asdict(settings.evaluation) | features,
            "sampling": dataclasses.asdict(settings.sampling),
            "calls": self._calls,
        }
        return json.loads(json.dumps(key))

    def _about(self) -> str:
        words = [f"Features and judges: {self._real.features_name}."]
        judged = evaluation.values_of(evaluation.judge_figures(self._real))
        words += [f"{name} {value:.3f}." for name, value in judged.items()]
        words += [f"{name} is left out: {reason}." for name, reason in self._left_out.items()]
        return " ".join(words)


def compare(config: ConfigDict, workdir: str, options: Options) -> str:
    """Trains all contenders with all seeds, judges all alike, prints and returns the table.

    The same call again goes on with the first run that has no figures.

    Raises:
        ValueError: a bad config, other modalities than image and label, bad data, or a workdir that
            holds another experiment.
        RuntimeError: the process of a contender died.
    """
    config = experiment.local_paths(config)
    judge.check_modalities(experiment.build(config))
    splits = experiment.open_data(config, whole=True)
    with experiment.hold_workdir(files.writable_folder(workdir, "workdir"), config) as folder:
        table = Comparison(config, splits, folder, options).run()
    print(table, end="")
    return table


def reason_against(python: str) -> str:
    """Why an interpreter cannot run hackable-diffusion; "" where it can.

    Example:
        >>> reason_against("/nowhere/python")
        '--python: got /nowhere/python, which cannot be run (No such file or directory); ...'
    """
    mend = "docs/benchmarks.md says how to make an interpreter for it"
    code = (
        "import importlib.util as u, sys; "
        "print(*[n for n in sys.argv[1:] if u.find_spec(n) is None])"
    )
    try:
        done = subprocess.run(
            [python, "-c", code, *_NEEDED],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
    except OSError as error:
        return f"--python: got {python}, which cannot be run ({error.strerror}); {mend}"
    if done.returncode:
        return f"--python: got {python}, which ended with {done.returncode}; {mend}"
    if missing := done.stdout.split():
        return f"--python: got {python}, which lacks {', '.join(missing)}; {mend}"
    return ""


def _train(worker: Worker, num_steps: int) -> float:
    """Takes all steps and returns the seconds; the first step, which compiles, does not count."""
    worker.run("train", 1)
    seconds, taken = 0.0, 1
    while taken < num_steps:
        stride = min(_STRIDE, num_steps - taken)
        seconds += worker.run("train", stride).seconds
        taken += stride
        logging.info("Step %d of %d.", taken, num_steps)
    return seconds
