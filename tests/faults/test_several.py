"""Two processes that train one model: stopped, killed, gone on with, also by one process alone."""

import os
import shutil
import signal
import socket

import numpy as np
import pytest

from mmdiffusion_jax import training
from tests.faults import dying, tiny
from tests.processes import TINY, Running, together


def train(workdir, prepare=None):
    """Both to their end: exit statuses and what they said."""
    arguments = (f"--workdir={workdir}",)
    runs = together(2, TINY, *arguments, folder=workdir.parent, prepare=prepare or {})
    return [run.wait(60) for run in runs], [run.said for run in runs]


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("pair") / "w"
    statuses, said = train(workdir)
    assert statuses == [0, 0], said
    return tiny.outcome(workdir)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """The workdir of two processes of which one was asked to stop."""
    workdir = tmp_path_factory.mktemp("stopped") / "w"
    statuses, said = train(workdir, {1: (dying.terminate, 5)})
    assert statuses == [75, 75], said
    words = {line.partition("Stopped by")[2] for text in said for line in text.splitlines()} - {""}
    assert len(words) == 1, said
    with training.Checkpoints(workdir / "checkpoints", read_only=True) as checkpoints:
        assert f" a signal at step {checkpoints.steps()[-1]};" in words.pop()
    return workdir


def become_task(index, job):
    """What SLURM tells a task of a step of two on one node."""
    told = {"PROCID": index, "LOCALID": index, "NTASKS": 2, "STEP_NUM_TASKS": 2, "JOB_ID": job}
    told |= {"STEP_NODELIST": "localhost", "STEP_NUM_NODES": 1}
    os.environ.update({f"SLURM_{name}": str(value) for name, value in told.items()})


@pytest.mark.long
def test_tasks_of_a_slurm_step_find_each_other(pair, tmp_path):
    """By the environment alone; JAX takes the port from the last bits of the job's number."""
    with socket.socket() as probe:
        for job in range(os.getpid(), os.getpid() + 99):
            try:
                probe.bind(("localhost", 2**16 - 2**12 + job % 2**12))
                break
            except OSError:
                continue
    workdir = tmp_path / "w"
    arguments = (TINY, f"--workdir={workdir}")
    runs = [
        Running(*arguments, log=tmp_path / f"log-{k}", prepare=(become_task, k, job))
        for k in range(2)
    ]
    assert [run.wait(60) for run in runs] == [0, 0], [run.said for run in runs]
    assert [f"Process {k} of 2." in run.said for k, run in enumerate(runs)] == [True, True]
    assert tiny.outcome(workdir) == pair


@pytest.mark.long
def test_a_stop_of_one_stops_both_and_both_go_on(pair, stopped, tmp_path):
    workdir = shutil.copytree(stopped, tmp_path / "w")
    statuses, said = train(workdir)
    assert statuses == [0, 0], said
    assert all("Resuming from step" in text for text in said)
    assert tiny.outcome(workdir) == pair


@pytest.mark.long
def test_one_process_goes_on_where_two_were(unharmed, stopped, tmp_path):
    """The sums over the batch are added up in another order."""
    workdir = shutil.copytree(stopped, tmp_path / "w")
    run = Running(TINY, f"--workdir={workdir}", log=tmp_path / "log")
    assert run.wait() == 0, run.said
    ours, theirs = tiny.outcome(workdir), unharmed
    assert ours["checkpoints"]["position"] == theirs["checkpoints"]["position"]
    for name, wanted in theirs["checkpoints"]["state"].items():
        got = ours["checkpoints"]["state"][name]
        if name.startswith((".params", ".ema")):
            numbers = (np.frombuffer(x, np.float32) for x in (got, wanted))
            np.testing.assert_allclose(*numbers, rtol=1e-4, atol=1e-6)
    for line, wanted in zip(ours["metrics"], theirs["metrics"], strict=True):
        assert line == pytest.approx(wanted, rel=1e-4)


@pytest.mark.long
@pytest.mark.parametrize("killed", [pytest.param(0, marks=pytest.mark.campaign), 1])
def test_both_end_when_one_is_killed_and_both_go_on(pair, tmp_path, killed):
    workdir = tmp_path / "w"
    statuses, said = train(workdir, {killed: (dying.die, "in a step", 7)})
    assert statuses[killed] == -signal.SIGKILL
    other = 1 - killed
    if statuses[other] == 75:
        assert "stopped: another process of this run is gone" in said[other]
    else:
        # JAX's own service was first to notice.
        assert statuses[other] == -signal.SIGABRT
        assert "This most likely indicates that another task died" in said[other]
    statuses, said = train(workdir)
    assert statuses == [0, 0], said
    assert tiny.outcome(workdir) == pair


def test_a_collective_that_fails_as_a_value_error_asks_for_another_start(tmp_path):
    """Which error JAX raises where a process is gone depends on where the other one waits."""
    error = ValueError("UNKNOWN: Gloo AllGather failed: Connection closed by peer")
    statuses, said = train(tmp_path / "w", {0: (dying.fail_reading, error, 9)})
    assert statuses[0] == 75, said[0]
    assert "another process of this run is gone, or cannot be reached (UNKNOWN: Gloo" in said[0]
    assert statuses[1] in (75, -signal.SIGABRT), said[1]
