"""Runs the benchmarks that are asked for, one after another, and writes what they found."""

import os
from collections.abc import Collection, Mapping

from absl import logging

from benchmarks.speed import report
from benchmarks.speed.harness import Pace
from benchmarks.speed.suite import BENCHMARKS, Benchmark
from benchmarks.speed.worker import Unavailable
from mmdiffusion_jax import errors, files

FULL, QUICK = Pace(), Pace(rounds=3, seconds=0.2)


def run(only: Collection[str], quick: bool, out: str) -> None:
    """Measures, prints a table and writes `results.json` and `results.md`.

    Each benchmark's rows are written as soon as they are there.

    Args:
        only: names of benchmarks or of their rows; empty for all.
        quick: a few short rounds, to see that everything runs.
        out: the folder of the results.

    Raises:
        ValueError: an unknown name, or a folder that cannot be written to.
        RuntimeError: something broke; the others have run.
    """
    folder = files.writable_folder(out, "out")
    about = report.describe(len(os.sched_getaffinity(0)))
    failed = {}
    for name, benchmark in chosen(BENCHMARKS, only).items():
        logging.info("%s: %s", name, benchmark.title)
        skipped: dict[str, str] = {}
        before = report.stolen()
        rows = {}
        try:
            measured = benchmark.measure(QUICK if quick else FULL)
        except Unavailable as reason:
            skipped = dict.fromkeys(benchmark.goals, str(reason))
        except RuntimeError as error:
            failed[name] = str(error)
            skipped = dict.fromkeys(benchmark.goals, "it broke")
        else:
            taken, all_there_was = (b - a for a, b in zip(before, report.stolen(), strict=True))
            share = taken / all_there_was if all_there_was else 0.0
            rows = {
                row: report.entry(x, benchmark.goals[row], benchmark.title, share, quick)
                for row, x in measured.items()
            }
        results = report.merge(folder, about, rows, skipped)
        report.write(folder, results)
        for row, why in skipped.items():
            logging.warning("%s is left out: %s", row, why)
    print((folder / "results.md").read_text(), end="")
    if failed:
        raise RuntimeError("\n".join(f"{name}: {words}" for name, words in failed.items()))


def chosen(benchmarks: Mapping[str, Benchmark], only: Collection[str]) -> dict[str, Benchmark]:
    """The benchmarks that these names ask for, by their own name or that of a row.

    Raises:
        ValueError: an unknown name.
    """
    rows = {row: name for name, benchmark in benchmarks.items() for row in benchmark.goals}
    for name in only:
        if name not in rows and name not in benchmarks:
            raise errors.unknown("only", name, [*benchmarks, *rows])
    wanted = {rows.get(name, name) for name in only} or set(benchmarks)
    return {name: benchmark for name, benchmark in benchmarks.items() if name in wanted}
