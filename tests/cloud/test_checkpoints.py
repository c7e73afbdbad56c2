"""Checkpoints in buckets: an object that is put last commits them, and digests are the store's."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdiffusion_jax import files, training
from mmdiffusion_jax.apps.sweep.expand import expand_sweep
from mmdiffusion_jax.apps.sweep.progress import progress_of
from tests.cloud.stores import IN_ONE


@pytest.fixture
def folder(place):
    return files.to_path(place) / "checkpoints"


def state(step):
    return {"w": jnp.arange(7.0) * step, "key": jax.random.key(step)}


def save(folder, *steps, **options):
    with training.Checkpoints(folder, **options) as checkpoints:
        for step in steps:
            checkpoints.save(step, state(step), {"next_example": 8 * step})


def restored(folder, **options):
    with training.Checkpoints(folder, **options) as checkpoints:
        read = checkpoints.restore(state(0))
        if read is None:
            return None
        np.testing.assert_array_equal(read.state["w"], state(read.step)["w"])
        keys = read.state["key"], state(read.step)["key"]
        np.testing.assert_array_equal(*map(jax.random.key_data, keys))
        assert read.position == {"next_example": 8 * read.step}
        return read.step, checkpoints.steps()


def names(folder):
    return {x.relative_to(folder.parent).as_posix() for x in folder.parent.rglob("*")}


@IN_ONE
def test_the_newest_steps_stay_and_come_back(folder, caplog):
    assert restored(folder, read_only=True) is None
    save(folder, 5, 6, 7, keep=2)
    assert restored(folder, read_only=True) == (7, [6, 7])
    sealed = {x for x in names(folder) if x.startswith("checkpoints.digests/")}
    assert sealed == {"checkpoints.digests/6.json", "checkpoints.digests/7.json"}
    # They live through another opening, which removes what was not committed.
    assert restored(folder) == (7, [6, 7])
    assert sealed <= names(folder)
    assert "sealed" not in caplog.text


def test_a_part_is_read_alone(folder):
    with training.Checkpoints(folder) as checkpoints:
        checkpoints.save(3, {"ema": {"w": jnp.ones(2)}, "params": {"w": jnp.zeros(2)}}, {})
        part = checkpoints.restore_part(lambda position: "ema")
    assert part.state["w"].tolist() == [1.0, 1.0]


@IN_ONE
@pytest.mark.parametrize("harm", ["changed", "gone", "of another size"])
def test_a_harmed_step_is_named_and_put_aside_and_the_older_one_read(folder, caplog, harm):
    save(folder, 5, 6)
    victim = max((folder / "6" / "state").rglob("*"), key=lambda x: x.stat().st_size)
    content = victim.read_bytes()
    if harm == "gone":
        victim.unlink()
    else:
        other = bytes([content[0] ^ 1]) + content[1:] if harm == "changed" else content[:-1]
        with files.replacing(victim) as stream:
            stream.write(other)
    assert restored(folder, read_only=True) == (5, [5, 6])
    assert restored(folder) == (5, [5])
    words = r"checkpoint of step 6 is skipped: its file state/.*; step 5 is tried instead"
    assert re.search(words, caplog.text)
    assert "checkpoints.damaged/6.json" in names(folder)
    assert any(x.startswith("checkpoints.damaged/6/state/") for x in names(folder))
    save(folder, 6)
    assert restored(folder) == (6, [5, 6])


@IN_ONE
def test_a_step_that_was_not_committed_is_no_step(folder):
    save(folder, 5, 6)
    (folder / "6" / "commit_success.txt").unlink()
    assert restored(folder, read_only=True) == (5, [5])
    assert any(x.startswith("checkpoints/6/") for x in names(folder))
    # Who writes removes it.
    assert restored(folder) == (5, [5])
    assert not any(x.startswith("checkpoints/6/") for x in names(folder))
    save(folder, 6)
    assert restored(folder) == (6, [5, 6])


def test_a_step_without_a_digest_is_read_and_sealed(folder, caplog):
    save(folder, 5)
    (folder.parent / "checkpoints.digests" / "5.json").unlink()
    assert restored(folder) == (5, [5])
    assert "it was never sealed" in caplog.text
    assert "checkpoints.digests/5.json" in names(folder)


@IN_ONE
def test_a_listing_that_lags_costs_at_most_the_newest_step(folder, store):
    save(folder, 5)

    def is_listing(method, path):
        return method == "GET" and "prefix=" in path

    with store.proxy.lagging(is_listing):
        assert restored(folder, read_only=True) == (5, [5])
    save(folder, 6)
    with store.proxy.lagging(is_listing):
        assert restored(folder, read_only=True) == (5, [5])
    assert restored(folder) == (6, [5, 6])
    # Orbax lists what it has just written, and says that it is not there.
    with store.proxy.lagging(is_listing), pytest.raises(training.CheckpointError, match="step 7"):
        save(folder, 7)
    assert restored(folder)[0] == 6


def test_who_has_lost_the_folder_saves_nothing(folder, monkeypatch):
    with files.locked(folder.parent, "workdir"), training.Checkpoints(folder) as checkpoints:
        checkpoints.save(5, state(5), {})
        checkpoints.wait()
        monkeypatch.setattr(files.leases._Lease, "require", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            checkpoints.save(6, state(6), {})
    assert not (folder / "6").exists()


def test_a_run_of_a_sweep_whose_last_save_was_cut_off_is_not_done(place):
    run = expand_sweep("configs/smoke.py", str(place))[0]
    last = progress_of(run).num_steps
    lines = [{"step": last, "train/loss": 0.5}, {"step": last, "eval/loss": 0.5}]
    files.write_text(run.workdir / "metrics.jsonl", "".join(json.dumps(x) + "\n" for x in lines))
    files.write_text(run.workdir / "checkpoints" / str(last) / "state" / "manifest.ocdbt", "x")
    assert not progress_of(run).done
    files.write_text(run.workdir / "checkpoints" / str(last) / "commit_success.txt", "x")
    assert progress_of(run).done
