"""kill −9 at every point of a run: what was committed is there, and the run ends as if unharmed."""

import signal

import pytest

from tests.faults import dying, harms, outcomes, tiny
from tests.processes import TINY, Running


def committed(workdir):
    folder = workdir / "checkpoints"
    return (
        {int(x.name) for x in folder.glob("*") if x.name.isdecimal()} if folder.exists() else set()
    )


def sealed(workdir, step):
    return (workdir / "checkpoints" / "digests" / f"{step}.json").exists()


# The order matters where a point needs what a run before it has left.
LIVES = [
    "in a step",
    "in a line of metrics",
    "between two items of a checkpoint",
    "before a commit",
    "while metrics are cut",
    "after a commit",
    "in a digest",
    "before a digest",
    "before the best is committed",
    "after the best is committed",
    "in a picture",
    "while a damaged step is moved",
    "while a step is deleted",
]


def test_a_run_killed_at_every_point_ends_as_if_it_had_not_been(unharmed, tmp_path):
    assert set(LIVES) == set(dying.POINTS)
    workdir, before = tmp_path / "w", set()
    for point in [*LIVES, None]:
        if point == "while a damaged step is moved":
            newest = max(before)
            harms.remove(workdir / "checkpoints" / str(newest) / "contents" / "metadata")
            before.remove(newest)
        newest = max(before, default=None)
        was_sealed = newest is not None and sealed(workdir, newest)
        prepare = () if point is None else (dying.die, point)
        run = Running(TINY, f"--workdir={workdir}", log=tmp_path / "log", prepare=prepare)
        assert run.wait() == (0 if point is None else -signal.SIGKILL), (point, run.said)
        assert "Traceback" not in run.said
        if newest is not None and point != "while a damaged step is moved":
            assert was_sealed or f"step {newest}: it was never sealed" in run.said
            if point not in ("in a digest", "before a digest"):
                assert f"Resuming from step {newest}." in run.said, point
        after = committed(workdir)
        assert max(after, default=0) >= max(before, default=0), point
        before = after
    assert outcomes.differences(tiny.outcome(workdir), unharmed) == []
    assert outcomes.leftovers(workdir) == []


@pytest.mark.parametrize(
    ("point", "count"), [("after a commit", 8), ("after the best is committed", 4)]
)
def test_what_the_last_save_had_no_time_to_delete_is_deleted(unharmed, tmp_path, point, count):
    workdir, log = tmp_path / "w", tmp_path / "log"
    killed = Running(TINY, f"--workdir={workdir}", log=log, prepare=(dying.die, point, count))
    assert killed.wait() == -signal.SIGKILL, killed.said
    run = Running(TINY, f"--workdir={workdir}", log=log)
    assert run.wait() == 0, run.said
    assert outcomes.differences(tiny.outcome(workdir), unharmed) == []
