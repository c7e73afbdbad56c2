"""Samples on their way to the disk: killed at every point, and a full disk."""

import signal

import numpy as np
import pytest

from tests.faults import dying
from tests.processes import Running

SCRIPT = "tests/faults/tiny_sample.py"


def contents(folder):
    """What each file holds, those that begin with a dot included."""
    contents = {}
    for file in folder.iterdir():
        contents[file.name] = file.read_bytes()
        if file.suffix == ".npz":
            with np.load(file) as arrays:
                contents[file.name] = {name: x.tobytes() for name, x in arrays.items()}
    return contents


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    run = Running(SCRIPT, f"--out={folder / 'out'}", log=folder / "log")
    assert run.wait() == 0, run.said
    return contents(folder / "out")


def test_sampling_killed_at_every_point_ends_as_if_it_had_not_been(whole, tmp_path):
    out, log = tmp_path / "out", tmp_path / "log"
    for point in dying.SAMPLING_POINTS:
        run = Running(SCRIPT, f"--out={out}", log=log, prepare=(dying.die, point))
        assert run.wait() == -signal.SIGKILL, (point, run.said)
        for name, value in contents(out).items():
            assert name.startswith(".") or value == whole[name], (point, name)
    run = Running(SCRIPT, f"--out={out}", log=log)
    assert run.wait() == 0, run.said
    assert "Shard 1 of 4" not in run.said
    assert "Shard 2 of 4" in run.said
    assert contents(out) == whole


def test_a_full_disk_is_named_and_costs_no_shard(whole, small_disk, tmp_path):
    small_disk.resize("150k")
    out, log = small_disk.folder / "out", tmp_path / "log"
    run = Running(SCRIPT, f"--out={out}", log=log)
    assert run.wait() == 1
    assert run.last_words.startswith(f"error: `{out / 'samples-00002-of-00004.npz'}`: got No space")
    assert contents(out).items() < whole.items()
    small_disk.resize("1m")
    run = Running(SCRIPT, f"--out={out}", log=log)
    assert run.wait() == 0, run.said
    assert contents(out) == whole


def test_a_read_only_disk_is_found_out_before_anything_is_drawn(small_disk, tmp_path):
    small_disk.protect()
    out, log = small_disk.folder / "out", tmp_path / "log"
    run = Running(SCRIPT, f"--out={out}", log=log, prepare=(refuse_to_draw,))
    assert run.wait() == 1
    assert run.said.strip().startswith(f"error: `out`: got {out}, which cannot be written (Read-on")


def refuse_to_draw():
    def fail(*_, **__):
        raise AssertionError("something was drawn")

    np.random.default_rng = fail
