"""One finished run for all tests of the launch scripts."""

import pytest

from tests.run.small import SMALL, launch


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    done = launch("train", *SMALL, f"--workdir={folder / 'w'}", f"--config.data.folder={folder}")
    assert done.returncode == 0, done.stderr
    return folder / "w"
