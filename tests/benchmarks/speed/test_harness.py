"""Turns, ratios and processes."""

import time

import numpy as np
import pytest

from benchmarks.speed.harness import Measured, Pace, Worker, blocks, interleave, ratio, workers
from benchmarks.speed.worker import Unavailable

TOY = "tests.benchmarks.speed.toy"


def test_a_ratio_is_that_of_the_work():
    slow, fast = ((f"{TOY}:sleeper", {"milliseconds": x}) for x in (300, 100))
    with workers(slow=slow, fast=fast) as sides:
        arms = {name: (worker, "work") for name, worker in sides.items()}
        measured = interleave(arms, Pace(rounds=3, seconds=0.3))
    row = ratio("slow", "fast", measured)
    # Sleep may be longer than asked for, on both sides.
    assert 2 < row.value < 4
    assert row.details["rounds"] == 3
    assert row.details["seconds"]["fast"] == pytest.approx(0.1, abs=0.05)
    # Asleep, nothing is done.
    assert row.details["cpu_seconds"]["slow"] < 0.01


def test_every_arm_has_each_round_one_turn_of_its_count():
    with Worker(f"{TOY}:counter") as worker:
        interleave(dict.fromkeys(("a", "b"), (worker, "work")), Pace(rounds=4, count=7))
        # Two trials and four rounds of two arms, and this one.
        assert worker.run("work", 1).value == 2 * (2 + 4 * 7) + 1


def test_who_waits_for_a_turn_does_nothing():
    with Worker(f"{TOY}:counter") as worker:
        before = worker.run("beats").value
        time.sleep(2)
        assert worker.run("beats").value - before < 50


def test_a_side_that_cannot_run_says_why():
    with pytest.raises(Unavailable, match="there is no such thing here"):
        Worker(f"{TOY}:refuses")


def test_a_side_that_dies_leaves_its_last_words():
    with (
        Worker(f"{TOY}:dies") as worker,
        pytest.raises(RuntimeError, match="toy:dies died:\nthese were its last words 5"),
    ):
        worker.run("work", 5)


def test_a_block_is_what_its_turns_take_on_average():
    merged = blocks(Measured({"a": [1, 3, 2, 8], "b": [1, 1, 5, 6]}, {"a": [0, 1, 0, 2]}), 2)
    assert merged == Measured({"a": [2, 5], "b": [1, 5.5]}, {"a": [0.5, 1]})


def test_the_median_of_ratios_and_its_spread_are_numpys():
    draws = np.random.default_rng(0)
    ours, theirs = draws.uniform(1, 2, (2, 9)).tolist()
    row = ratio("a", "b", Measured({"a": ours, "b": theirs}, {}), size=3)
    ratios = np.divide(ours, theirs)
    assert row.value == pytest.approx(np.median(ratios))
    assert row.spread == pytest.approx(np.quantile(ratios, (0, 0.25, 0.75, 1)))
    assert row.details["size"] == 3
