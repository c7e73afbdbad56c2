"""Kills at times that nobody chose, and every harm to a whole run: `make campaign`."""

import collections
import random
import shutil
import signal
import time

import pytest

from tests.apps.small import SMALL
from tests.faults import dying, harms, tiny
from tests.faults.outcomes import leftovers, outcome_of_launch
from tests.processes import TINY, Running, together

pytestmark = pytest.mark.campaign

# Starts that may come to nothing before a run has to be left in peace.
_PATIENCE = 60

# The latest signal, as a share of the time that a run takes which is let alone.
_LATEST = 0.8


def seconds(*runs):
    """How long it takes until all of them have ended as they should."""
    begun = time.monotonic()
    assert [run.wait() for run in runs] == [0] * len(runs), [run.said for run in runs]
    return time.monotonic() - begun


def harass(start, draw, longest, signals):
    """Starts a command again and again, and ends it by signals at random times; what came of it."""
    ends = collections.Counter()
    for _ in range(_PATIENCE):
        run = start()
        time.sleep(draw.uniform(0.0, longest))
        if run.is_alive():
            run.send(draw.choice(signals))
        status = run.wait()
        assert "Traceback" not in run.said
        # A signal that comes before the script listens ends it too.
        assert status in (0, 75, -signal.SIGKILL, -signal.SIGTERM), run.said
        ends[status] += 1
        if status == 0:
            break
    else:
        seconds(start())
        ends[0] += 1
    assert ends.total() > 1, "no signal came before the end"
    return ends


@pytest.mark.parametrize("seed", range(8))
def test_tiny_runs_end_as_if_nothing_had_been(unharmed, tmp_path, seed):
    def start(name="w"):
        return Running(TINY, f"--workdir={tmp_path / name}", log=tmp_path / "log")

    latest = _LATEST * seconds(start("whole"))
    signals = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM)
    ends = harass(start, random.Random(seed), latest, signals)
    print(f"tiny run, seed {seed}: {dict(ends)}")
    outcome = tiny.outcome(tmp_path / "w")
    if ends[75] and outcome["checkpoints"]["steps"] == [tiny.STEPS - 1, tiny.STEPS]:
        # A signal saves whatever step it is, and the last two that were saved are kept.
        outcome["checkpoints"]["steps"] = unharmed["checkpoints"]["steps"]
    assert outcome == unharmed
    assert leftovers(tmp_path / "w") == []


@pytest.mark.parametrize("seed", range(2))
def test_a_whole_run_ends_as_if_nothing_had_been(finished, tmp_path, seed):
    data = f"--config.data.folder={finished.parent}"

    def start(name="w"):
        workdir = f"--workdir={tmp_path / name}"
        return Running("launch/train.py", *SMALL, workdir, data, log=tmp_path / "log")

    latest = _LATEST * seconds(start("whole"))
    ends = harass(start, random.Random(seed), latest, (signal.SIGKILL,))
    print(f"launch/train.py, seed {seed}: {dict(ends)}")
    assert outcome_of_launch(tmp_path / "w") == outcome_of_launch(finished)


@pytest.mark.parametrize("harm", harms.HARMS)
def test_a_run_goes_on_bit_for_bit_whichever_file_was_harmed(unharmed, tmp_path, harm):
    stopped, log = tmp_path / "stopped", tmp_path / "log"
    run = Running(TINY, f"--workdir={stopped}", log=log, prepare=(dying.terminate, 11))
    assert run.wait() == 75, run.said
    newest = stopped / "checkpoints" / "11"
    files = [x.relative_to(stopped) for x in newest.rglob("*") if x.is_file()]
    files.append((newest.parent / "digests" / "11.json").relative_to(stopped))
    draw = random.Random(harm)
    for index, file in enumerate(sorted(files)):
        workdir = shutil.copytree(stopped, tmp_path / str(index))
        harms.apply(harm, workdir / file, draw)
        run = Running(TINY, f"--workdir={workdir}", log=log)
        assert run.wait() == 0, (file, run.said)
        assert "Traceback" not in run.said
        assert "checkpoint of step 11" in run.said
        assert tiny.outcome(workdir) == unharmed
        shutil.rmtree(workdir)
    print(f"{harm}: {len(files)} files")


@pytest.mark.parametrize("seed", range(4))
def test_two_processes_of_which_one_is_killed_at_a_random_time(tmp_path, seed):
    draw = random.Random(seed)
    workdir, whole = tmp_path / "w", tmp_path / "whole"
    latest = _LATEST * seconds(
        *together(2, TINY, f"--workdir={whole}", folder=tmp_path, prepare={})
    )
    runs = together(2, TINY, f"--workdir={workdir}", folder=tmp_path, prepare={})
    time.sleep(draw.uniform(0.2, 0.8) * latest)
    victim = draw.randrange(2)
    assert runs[victim].is_alive(), "the signal came after the end"
    runs[victim].send(signal.SIGKILL)
    begun = time.monotonic()
    statuses = [run.wait(90) for run in runs]
    print(f"process {victim} killed: {statuses} after {time.monotonic() - begun:.0f} s")
    assert statuses[1 - victim] in (0, 75, -signal.SIGABRT), runs[1 - victim].said
    seconds(*together(2, TINY, f"--workdir={workdir}", folder=tmp_path, prepare={}))
    assert tiny.outcome(workdir) == tiny.outcome(whole)
