"""launch/train.py and launch/sample.py killed in the middle, and the same command again."""

import shutil
import signal

import numpy as np
import pytest

from tests.apps.small import SMALL
from tests.faults import dying
from tests.faults.outcomes import leftovers, outcome_of_launch
from tests.processes import Running


@pytest.mark.long
def test_training_killed_in_a_save_goes_on_bit_for_bit(finished, tmp_path):
    workdir, log = tmp_path / "w", tmp_path / "log"
    shutil.copytree(finished, workdir)
    for step in (6, 8):
        shutil.rmtree(workdir / "checkpoints" / str(step))
        (workdir / "checkpoints" / "digests" / f"{step}.json").unlink()
    command = ("launch/train.py", *SMALL, f"--workdir={workdir}")
    command += (f"--config.data.folder={finished.parent}",)
    run = Running(*command, log=log, prepare=(dying.die, "before a commit"))
    assert run.wait() == -signal.SIGKILL, run.said
    assert "Resuming from step 4." in run.said
    assert leftovers(workdir) != []
    run = Running(*command, log=log)
    assert run.wait() == 0, run.said
    assert "Resuming from step 4." in run.said
    assert outcome_of_launch(workdir) == outcome_of_launch(finished)
    assert leftovers(workdir) == []


@pytest.mark.long
def test_sampling_killed_in_a_shard_goes_on(finished, tmp_path):
    command = ("launch/sample.py", f"--workdir={finished}", "--num_samples=7", "--shard_size=3")

    def sample(out, prepare=()):
        run = Running(*command, f"--out={tmp_path / out}", log=tmp_path / "log", prepare=prepare)
        return run.wait(), run.said

    assert sample("cut", (dying.die, "in a shard", 2))[0] == -signal.SIGKILL
    status, said = sample("cut")
    assert status == 0, said
    assert "Shard 1 of 3" not in said
    assert sample("whole")[0] == 0
    for file in (tmp_path / "whole").glob("*.npz"):
        with np.load(file) as theirs, np.load(tmp_path / "cut" / file.name) as ours:
            for name in theirs.files:
                np.testing.assert_array_equal(ours[name], theirs[name])
    picture = (tmp_path / "whole" / "samples.png").read_bytes()
    assert (tmp_path / "cut" / "samples.png").read_bytes() == picture
    assert leftovers(tmp_path / "cut") == []
