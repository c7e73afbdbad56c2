"""Stops that are no kill: signals, a clock that jumps, data that cannot be read, a second run."""

import signal

import numpy as np
import pytest

from mmdiffusion_jax import experiment, training
from tests.apps.small import smoke_config
from tests.faults import dying, harms, tiny
from tests.processes import TINY, Running

YEARS = 10 * 365 * 24 * 3600


def start(workdir, *arguments, prepare=()):
    log = workdir.with_suffix(".log")
    return Running(TINY, f"--workdir={workdir}", *arguments, log=log, prepare=prepare)


def together(*prepares):
    for function, *arguments in prepares:
        function(*arguments)


def test_signals_end_a_run_with_a_checkpoint_whatever_the_clock_says(unharmed, tmp_path):
    workdir = tmp_path / "w"
    # 5 and 11 are neither logged nor saved by themselves.
    for clock, stop, step in (
        (0, (dying.terminate_before_training,), 0),
        (0, (dying.terminate, 5), 5),
        (-YEARS, (dying.terminate, 6), 11),
    ):
        prepare = (together, (dying.shift_the_clock, clock), stop)
        run = start(workdir, prepare=prepare)
        assert run.wait() == 75, run.said
        assert "Traceback" not in run.said
        if step:
            assert f"Stopped by a signal at step {step}; run again to go on" in run.said
            with training.Checkpoints(workdir / "checkpoints", read_only=True) as checkpoints:
                assert checkpoints.steps()[-1] == step
        else:
            assert run.last_words == "stopped by SIGTERM; run again to go on"
    run = start(workdir, prepare=(dying.shift_the_clock, YEARS))
    assert run.wait() == 0, run.said
    assert tiny.outcome(workdir) == unharmed


@pytest.mark.parametrize(
    "come", [dying.terminate_in_the_garbage_collector, dying.terminate_where_all_is_caught]
)
def test_a_signal_whose_error_does_not_arrive_is_not_lost(tmp_path, come):
    run = start(tmp_path / "w", prepare=(come,))
    assert run.wait() == 75, run.said
    assert "run again to go on" in run.said
    assert "Traceback" not in run.said


@pytest.mark.long
def test_a_signal_when_all_is_done_changes_nothing(unharmed, tmp_path):
    run = start(tmp_path / "w", prepare=(dying.terminate_at_the_end,))
    assert run.wait() == 0, run.said
    assert "Traceback" not in run.said
    assert tiny.outcome(tmp_path / "w") == unharmed


@pytest.mark.parametrize(
    ("error", "words"),
    [
        pytest.param(
            ValueError("`train.npz`: got a broken record"),
            "error: `train.npz`: got a broken record",
            marks=pytest.mark.long,
        ),
        (OSError(5, "Input/output error", "a.npz"), "error: `a.npz`: got Input/output error, exp"),
    ],
)
def test_a_reader_that_fails_ends_the_run_and_costs_no_checkpoint(unharmed, tmp_path, error, words):
    workdir = tmp_path / "w"
    run = start(workdir, prepare=(dying.fail_reading, error, 9))
    assert run.wait(60) == 1, run.said
    assert run.last_words.startswith(words)
    assert "Traceback" not in run.said
    assert tiny.outcome(workdir)["checkpoints"]["steps"] == [4, 6]
    assert start(workdir).wait() == 0
    assert tiny.outcome(workdir) == unharmed


def test_a_damaged_file_of_examples_is_named_before_anything_is_made(tmp_path):
    file = tmp_path / "mine.npz"
    np.savez(file, **tiny.examples())
    harms.flip(file)
    run = start(tmp_path / "w", f"--examples={file}")
    assert run.wait() == 1
    assert run.last_words.startswith(f"error: `path`: got '{file}' (")
    assert not (tmp_path / "w").exists()


def test_a_second_run_is_refused_until_the_first_is_gone(unharmed, tmp_path):
    workdir = tmp_path / "w"
    first = start(workdir, prepare=(dying.stand_still, 5))
    first.until("The step was compiled")
    second = Running(TINY, f"--workdir={workdir}", log=tmp_path / "second")
    assert second.wait() == 1
    assert f"got {workdir}, which process {first.pid} on" in second.last_words
    first.send(signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    third = start(workdir)
    assert third.wait() == 0, third.said
    assert tiny.outcome(workdir) == unharmed


@pytest.mark.parametrize("place", ["a file", "below a file", "a folder of the system"])
def test_a_workdir_that_cannot_be_written_to_is_one_error(tmp_path, place):
    file = tmp_path / "file"
    file.write_text("mine")
    workdir = {"a file": file, "below a file": file / "w", "a folder of the system": "/proc/w"}
    held = experiment.hold_workdir(workdir[place], smoke_config())
    with pytest.raises(ValueError, match=r"`workdir`: got .*cannot be written to"), held:
        pass
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]
