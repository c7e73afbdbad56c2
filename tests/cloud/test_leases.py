"""The lock of a folder in a bucket."""

import json
import os
import socket
import subprocess
import sys
import threading
import time

import pytest

from mmdiffusion_jax import files
from mmdiffusion_jax.files import leases


@pytest.fixture
def folder(place):
    return files.to_path(place)


@pytest.fixture
def short(monkeypatch):
    """Leases of a second or so."""
    monkeypatch.setattr(leases, "SECONDS", 1.2)


def write_lock(folder, **about):
    about = {"process": 1, "host": "elsewhere", "token": "x", "seconds": 1.2, "turn": 1, **about}
    files.write_text(folder / "lock", json.dumps(about))


def refuse(folder, words):
    with pytest.raises(ValueError, match=words), files.locked(folder, "workdir"):
        pass


def gone():
    """The number of a process that has ended."""
    return int(subprocess.check_output([sys.executable, "-c", "import os; print(os.getpid())"]))


def test_one_at_a_time(folder):
    with files.locked(folder, "workdir"):
        refuse(folder, f"`workdir`: .*which process {os.getpid()} on ")
        files.write_text(folder / "a", "")
    assert [x.name for x in folder.iterdir()] == ["a"]
    with files.locked(folder, "workdir"):
        pass


def test_a_process_of_another_machine_that_lives_is_respected(folder, short):
    write_lock(folder)
    over = threading.Event()

    def renew():
        turn = 1
        while not over.wait(0.3):
            turn += 1
            write_lock(folder, turn=turn)

    thread = threading.Thread(target=renew)
    thread.start()
    try:
        refuse(folder, "which process 1 on elsewhere is writing to")
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("content", ["a lease", "", "no JSON", "[]"])
def test_a_lease_that_is_not_renewed_is_taken_over_after_its_time(folder, short, content):
    if content == "a lease":
        write_lock(folder)
    else:
        files.write_text(folder / "lock", content)
    begun = time.monotonic()
    with files.locked(folder, "workdir"):
        assert time.monotonic() - begun >= 1.2
        assert json.loads((folder / "lock").read_text())["process"] == os.getpid()


def test_the_lease_of_a_process_that_has_ended_here_is_taken_over_at_once(folder):
    for process in (gone(), os.getpid()):
        write_lock(folder, machine=leases._machine(), process=process, seconds=60)
        begun = time.monotonic()
        with files.locked(folder, "workdir"):
            assert time.monotonic() - begun < 10


def test_a_process_of_another_container_is_not_taken_for_one_that_has_ended(folder, short):
    """It may have the name of this host, and a number that nobody has here."""
    write_lock(folder, host=socket.gethostname(), machine="another", process=gone())
    begun = time.monotonic()
    with files.locked(folder, "workdir"):
        assert time.monotonic() - begun >= 1.2


def test_of_many_that_take_an_expired_lease_one_has_it(folder, short):
    write_lock(folder)
    inside, refused, most = [], [], []

    def take(number):
        try:
            with files.locked(folder, "workdir"):
                inside.append(number)
                most.append(len(inside))
                time.sleep(2.0)
                inside.remove(number)
        except ValueError:
            refused.append(number)

    threads = [threading.Thread(target=take, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(most) == {1}
    assert refused


def test_a_lease_is_renewed_while_the_block_runs(folder, short):
    with files.locked(folder, "workdir"):
        turns = []
        for _ in range(3):
            time.sleep(0.7)
            turns.append(json.loads((folder / "lock").read_text())["turn"])
            files.write_text(folder / "a", "")
    assert turns == sorted(set(turns))


def test_who_has_lost_its_lease_writes_nothing_more(folder, short):
    with files.locked(folder, "workdir"):
        files.write_text(folder / "a", "mine")
        write_lock(folder, process=7)
        time.sleep(1.0)
        with pytest.raises(files.LeaseLostError, match="was taken over by process 7 on elsewhere"):
            files.write_text(folder / "a", "mine again")
        with pytest.raises(files.LeaseLostError):
            files.require_held(folder / "checkpoints")
        # What lies elsewhere is another's affair.
        files.write_text(folder.parent / "b", "")
    assert (folder / "a").read_text() == "mine"
    # It does not take away what is another's now.
    assert json.loads((folder / "lock").read_text())["process"] == 7


def test_a_process_that_stood_still_asks_before_it_writes(folder, short, monkeypatch):
    """As one that was stopped, or a machine that slept: its thread has renewed nothing."""
    monkeypatch.setattr(leases._Lease, "_keep", lambda self: None)
    with files.locked(folder, "workdir"):
        time.sleep(1.0)
        files.write_text(folder / "a", "nobody else came")
        write_lock(folder, process=7)
        time.sleep(1.0)
        with pytest.raises(files.LeaseLostError):
            files.write_text(folder / "a", "too late")
    assert (folder / "a").read_text() == "nobody else came"


def test_an_own_write_whose_answer_was_lost_does_not_cost_the_lease(folder):
    """The lock then has a turn of ours that we do not know of."""

    def renew(about):
        lock = json.dumps({**about, "turn": 99}).encode()
        with lease._busy:
            lease._store.write("lock", lock).result()
            lease._renew()

    with files.locked(folder, "workdir"):
        (lease,) = leases._held.values()
        renew(lease._about)
        files.write_text(folder / "a", "")
        renew({**lease._about, "token": "x"})
        with pytest.raises(files.LeaseLostError):
            files.write_text(folder / "a", "")


def test_a_store_that_fails_for_a_while_does_not_cost_the_lease(folder, store, monkeypatch):
    monkeypatch.setattr(leases, "SECONDS", 6.0)
    with files.locked(folder, "workdir"):
        with store.proxy.failing(503, 2, lambda method, path: "lock" in path):
            time.sleep(2.5)
        files.write_text(folder / "a", "")
