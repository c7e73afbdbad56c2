"""One finished run for all tests of the launch scripts."""

import fcntl

import pytest

from tests.apps.small import SMALL, launch


@pytest.fixture(scope="session")
def finished(tmp_path_factory, worker_id):
    """The folder of the run; parallel workers wait for the one that trains."""
    base = tmp_path_factory.getbasetemp()
    folder = base if worker_id == "master" else base.parent
    with (folder / "run.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "run" / "w").exists():
            data = f"--config.data.folder={folder / 'run'}"
            done = launch("train", *SMALL, f"--workdir={folder / 'run' / 'w'}", data)
            assert done.returncode == 0, done.stderr
    return folder / "run" / "w"
