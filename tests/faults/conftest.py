"""The tiny run without a fault, a whole one, and a disk of any size."""

import subprocess

import pytest

from tests.apps.conftest import finished
from tests.faults import tiny
from tests.processes import TINY, Running

__all__ = ["finished"]


@pytest.fixture(scope="session")
def unharmed(tmp_path_factory):
    """What a tiny run leaves behind that nothing came upon."""
    folder = tmp_path_factory.mktemp("unharmed")
    run = Running(TINY, f"--workdir={folder / 'w'}", log=folder / "log")
    assert run.wait() == 0, run.said
    return tiny.outcome(folder / "w")


class SmallDisk:
    """A file system in memory."""

    def __init__(self, folder):
        self.folder = folder

    def resize(self, size):
        self._remount(f"size={size}")

    def protect(self):
        """Makes it read-only."""
        self._remount("ro")

    def _remount(self, options):
        subprocess.run(["mount", "-o", f"remount,{options}", self.folder], check=True)


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=10m", "none", folder]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a file system takes root")
    yield SmallDisk(folder)
    subprocess.run(["umount", "--lazy", folder], check=True)
