"""A full disk ends a run with one line that names it; with room again, the run goes on."""

import pytest

from tests.faults import dying, tiny
from tests.processes import TINY, Running


@pytest.mark.long
# Full in the first save and in a later one.
@pytest.mark.parametrize("size", ["90k", "190k"])
def test_a_full_disk_ends_the_run_and_costs_no_checkpoint(unharmed, small_disk, tmp_path, size):
    small_disk.resize(size)
    workdir, log = small_disk.folder / "w", tmp_path / "log"
    run = Running(TINY, f"--workdir={workdir}", log=log)
    assert run.wait(60) == 1, run.said
    assert "Traceback" not in run.said
    assert run.last_words.startswith("error: ")
    assert str(workdir) in run.last_words
    assert "No space left on device" in run.last_words
    assert "make room" in run.last_words
    assert "what was committed is kept" in run.last_words.replace("and run again: ", "")
    small_disk.resize("10m")
    run = Running(TINY, f"--workdir={workdir}", log=log)
    assert run.wait() == 0, run.said
    assert tiny.outcome(workdir) == unharmed


@pytest.mark.long
def test_metrics_that_find_no_room_end_the_run(unharmed, tmp_path):
    workdir, log = tmp_path / "w", tmp_path / "log"
    prepare = (dying.fill_the_disk_of_metrics, 3)
    run = Running(TINY, f"--workdir={workdir}", log=log, prepare=prepare)
    assert run.wait(60) == 1, run.said
    assert "Traceback" not in run.said
    assert run.last_words.startswith(
        "error: `/dev/full`: got No space left on device, expected a f"
    )
    run = Running(TINY, f"--workdir={workdir}", log=log)
    assert run.wait() == 0, run.said
    assert "Resuming from step 4" in run.said
    assert tiny.outcome(workdir) == unharmed
