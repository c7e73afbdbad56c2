"""Runs whose workdir is in a bucket."""

import json
import random
import re
import signal
import time

import pytest

from mmdiffusion_jax import files
from mmdiffusion_jax.files import buckets
from tests.apps.small import SMALL, launch
from tests.cloud import lives
from tests.cloud.stores import IN_ONE
from tests.faults import dying, outcomes, tiny
from tests.processes import TINY, Running, together


@IN_ONE
def test_a_run_killed_at_its_writes_ends_as_if_it_had_not_been(unharmed, store, place, tmp_path):
    """On a disk it would have ended with the same bits."""
    killed = lives.harass(store, place, tmp_path / "log", random.Random(store.scheme), 4)
    assert killed > 0
    assert outcomes.differences(lives.outcome(place), unharmed) == []
    names = {x.relative_to(files.to_path(place)).parts[0] for x in files.to_path(place).rglob("*")}
    expected = {"metrics.jsonl", "metrics.jsonl.parts", "samples", "tensorboard"}
    for name in ("checkpoints", "best"):
        expected |= {name, f"{name}.digests"}
    assert names == expected


def stand_still_with_short_leases():
    lives.shorten_leases(4.0)
    dying.stand_still(5)


@IN_ONE
def test_a_second_run_is_refused_and_a_killed_one_replaced(unharmed, store, place, tmp_path):
    log, second = tmp_path / "log", tmp_path / "second"
    first = Running(TINY, f"--workdir={place}", log=log, prepare=(stand_still_with_short_leases,))
    committed = files.to_path(place) / "checkpoints" / "4" / "commit_success.txt"
    while not committed.exists():
        assert first.is_alive(), first.said
        time.sleep(0.1)
    status, said = lives.live(store, place, second, prepare=(lives.shorten_leases, 4.0))
    assert status == 1
    assert f"error: `workdir`: got {place}, which process {first.pid} on " in said
    first.send(signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    status, said = lives.live(store, place, second)
    assert status == 0, said
    assert "Resuming from step 4." in said
    assert outcomes.differences(lives.outcome(place), unharmed) == []


def lose(place):
    """Has another process take the folder over, in a step of a run."""

    def take_over():
        about = {"process": 7, "host": "elsewhere", "token": "x", "seconds": 60, "turn": 1}
        (files.to_path(place) / "lock").unlink()
        lock = files.to_path(f"{place}/lock")
        buckets.store(lock).pipe_file(str(lock), json.dumps(about).encode())
        time.sleep(4.0)

    lives.shorten_leases(4.0)
    dying._at_call(dying.speed.Stopwatch, "count", 5, fault=take_over)


@IN_ONE
def test_a_run_that_lost_its_folder_ends_in_one_line(store, place, tmp_path):
    status, said = lives.live(store, place, tmp_path / "log", prepare=(lose, place))
    assert status == 1
    assert "was taken over by process 7 on elsewhere" in said
    assert "Traceback" not in said
    assert (files.to_path(place) / "checkpoints" / "4").exists()
    assert not (files.to_path(place) / "checkpoints" / "6").exists()


@pytest.mark.parametrize(
    ("bucket", "words"),
    [("nobody-made-this", "a bucket that exists"), ("", "expected (gs|s3)://BUCKET/FOLDER")],
)
def test_a_bad_bucket_is_one_line_at_once(store, tmp_path, bucket, words):
    done = launch("train", *SMALL, f"--workdir={store.scheme}://{bucket}/w")
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "`workdir`: got " in line
    assert re.search(words, line)


@pytest.mark.long
def test_puts_that_fail_five_times_do_not_end_a_run(unharmed, store, place, tmp_path):
    def is_put(method, path):
        return method in ("PUT", "POST") and draw.random() < 0.03

    draw = random.Random(0)
    with store.proxy.failing(503, 5, is_put) as rule:
        status, said = lives.live(store, place, tmp_path / "log")
    assert status == 0, said
    assert rule[3] == 5
    assert outcomes.differences(lives.outcome(place), unharmed) == []


@pytest.mark.long
def test_two_processes_train_in_a_bucket(place, tmp_path):
    for folder in (tmp_path, place):
        runs = together(2, TINY, f"--workdir={folder}/w", folder=tmp_path, prepare={})
        assert [run.wait() for run in runs] == [0, 0], [run.said for run in runs]
    theirs = tiny.outcome(tmp_path / "w")
    assert outcomes.differences(lives.outcome(f"{place}/w"), theirs) == []


SUCCESSOR = ("--config=configs/graceful_update.py", *SMALL[1:], "--config.training.num_steps=4")


@pytest.mark.long
def test_every_command_works_in_a_bucket(finished, store, place, tmp_path):
    data = f"--config.data.folder={finished.parent}"
    workdir = f"{place}/w"

    def run(script, *arguments):
        done = launch(script, *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("train", *SMALL, f"--workdir={workdir}", data)
    ours = outcomes.outcome_of_launch(files.to_path(workdir))
    assert outcomes.differences(ours, outcomes.outcome_of_launch(finished)) == []
    run("evaluate", f"--workdir={workdir}")
    assert json.loads((files.to_path(workdir) / "metrics.json").read_text())["num_examples"]
    for out in (f"{place}/out", tmp_path / "out"):
        run("sample", f"--workdir={workdir}", f"--out={out}", "--num_samples=6", "--shard_size=4")
    for name in ("samples-00000-of-00002.npz", "samples-00001-of-00002.npz", "samples.png"):
        assert (files.to_path(f"{place}/out") / name).read_bytes() == (
            tmp_path / "out" / name
        ).read_bytes()
    # What is there is not drawn again.
    before = len(store.proxy.log)
    run("sample", f"--workdir={workdir}", f"--out={place}/out", "--num_samples=6", "--shard_size=4")
    written = [path for method, path in store.proxy.log[before:] if method in ("POST", "PUT")]
    assert not [path for path in written if "samples-0" in path]
    run("export", f"--workdir={workdir}", f"--out={place}/model.safetensors")
    run("export", f"--workdir={finished}", f"--out={tmp_path}/model.safetensors")
    exported = (files.to_path(place) / "model.safetensors").read_bytes()
    assert exported == (tmp_path / "model.safetensors").read_bytes()
    run("update", *SUCCESSOR, f"--workdir={place}/new", f"--from={workdir}", data)
    easy = ("--error_increase=1", "--negative_flips=1", "--denoiser_ratio=99", "--retrieval_loss=1")
    run("compare_update", f"--workdir={place}/new", *easy)
    assert (files.to_path(place) / "new" / "report.png").stat().st_size > 10_000
    run("report", f"--workdir={place}/new")
    run("train", *SMALL, f"--workdir={place}/fine", data, f"--config.init_from={workdir}")
    assert b"step" in (files.to_path(place) / "fine" / "report.html").read_bytes()


@pytest.mark.long
def test_a_sweep_in_a_bucket(finished, place, tmp_path):
    (tmp_path / "seeds.py").write_text(
        "from configs.smoke import get_config\n\n\n"
        "def get_sweep():\n    return [{'seed': k} for k in range(2)]\n"
    )
    done = launch(
        "sweep", f"--config={tmp_path / 'seeds.py'}", f"--workdir={place}", "--", *SMALL[1:],
        f"--config.data.folder={finished.parent}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    folder = files.to_path(place)
    assert b"Nothing to do" not in (folder / "seed=0" / "log.txt").read_bytes()
    table = (folder / "sweep.csv").read_text()
    assert table.count("done") == 2
