"""A data set of a folder: killed at any point it comes out the same, and memory stays."""

import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from mmdiffusion_jax.data import folder
from mmdiffusion_jax.data.folder import examples, shards
from mmdiffusion_jax.data.prepared import open_tfds
from tests.data.folder.pictures import options, photos, prepare, save
from tests.faults.conftest import small_disk
from tests.processes import Running

__all__ = ["small_disk"]

LAUNCHER = str(Path(__file__).resolve().parents[3] / "launch" / "prepare.py")


def contents(out):
    """{relative path: bytes} but of the lock, which names its last process."""
    return {
        str(file.relative_to(out)): file.read_bytes()
        for file in Path(out).rglob("*")
        if file.is_file() and file.name != "lock"
    }


def flags(tmp_path, out, *more):
    place = f"--folder={tmp_path / 'photos'}"
    return [place, "--size=6,8", "--test_share=0.4", f"--out={out}", *more]


def small_files():
    shards._PICTURES = 4


def die(owner, name, count, after):
    """Kills the process at the count-th call, before or after it."""
    small_files()
    original, calls = getattr(owner, name), iter(range(1, 10**6))

    def called(*arguments, **named):
        last = next(calls) == count
        if last and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*arguments, **named)
        if last:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, called)


POINTS = {
    "in a picture": (examples.ExampleMaker, "__call__", 6, False),
    "before a file has its name": (os, "replace", 3, False),
    "before a file is recorded": (shards, "_make_shard", 3, False),
    "after a file": (shards, "_make_shard", 3, True),
    "before the metadata": ("metadata", "_write_metadata", 1, False),
    "after the metadata": ("metadata", "_write_metadata", 1, True),
    "before the end": ("metadata", "remove_progress", 1, False),
}


def die_at(point):
    owner, *rest = POINTS[point]
    # The module, whose name its function hides.
    import sys

    owner = sys.modules["mmdiffusion_jax.data.folder.prepare"] if owner == "metadata" else owner
    die(owner, *rest)


@pytest.mark.parametrize("point", POINTS)
def test_what_is_killed_goes_on_and_comes_out_the_same(tmp_path, point):
    photos(tmp_path / "photos", range(21))
    (tmp_path / "photos" / "bad.jpg").write_bytes(b"no picture")
    out, log = tmp_path / "out", tmp_path / "log"
    killed = Running(LAUNCHER, *flags(tmp_path, out), log=log, prepare=(die_at, point))
    assert killed.wait() == -signal.SIGKILL, killed.said
    before = {name: data for name, data in contents(out).items() if name.startswith("pictures")}
    times = {name: (out / name).stat().st_mtime_ns for name in before}
    again = Running(LAUNCHER, *flags(tmp_path, out), log=log, prepare=(small_files,))
    assert again.wait() == 0, again.said
    assert again.last_words == str(out / "config.py")
    whole = tmp_path / "elsewhere" / "out"
    once = Running(LAUNCHER, *flags(tmp_path, whole), log=log, prepare=(small_files,))
    assert once.wait() == 0, once.said
    left, right = contents(out), contents(whole)
    # The config says how it is called.
    left["config.py"] = left["config.py"].replace(str(out).encode(), str(whole).encode())
    assert left == right
    assert b"bad.jpg" in left["skipped.csv"]
    kept = [name for name in times if (out / name).stat().st_mtime_ns == times[name]]
    # At most the file whose record was missing is made again.
    assert len(kept) >= len(before) - 1


def test_a_whole_folder_is_left_as_it_is_and_a_damaged_one_is_mended(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "_PICTURES", 4)
    photos(tmp_path / "photos", range(21))
    out = tmp_path / "out"
    prepared, _ = prepare(tmp_path / "photos", out)
    before = contents(out)
    with monkeypatch.context() as patch:
        patch.setattr(examples.ExampleMaker, "__call__", lambda *_: pytest.fail("it was read"))
        assert folder.prepare(options(tmp_path / "photos"), str(out)) == prepared
    assert contents(out) == before
    lost = sorted(out.glob("pictures-train*"))[1]
    lost.unlink()
    with pytest.raises(ValueError, match="whole examples; prepare it again"):
        open_tfds(out, "train")
    assert folder.prepare(options(tmp_path / "photos"), str(out)) == prepared
    assert contents(out) == before


@pytest.mark.parametrize("change", ["options", "pictures", "times"])
def test_a_folder_of_other_pictures_is_not_taken_for_these(tmp_path, change):
    photos(tmp_path / "photos")
    prepare(tmp_path / "photos", tmp_path / "out")
    before = contents(tmp_path / "out")
    changes = {"size": (3, 4)} if change == "options" else {}
    if change == "pictures":
        photos(tmp_path / "photos", ["another"])
    if change == "times":
        os.utime(tmp_path / "photos" / "3.png", (1, 1))
    with pytest.raises(ValueError, match=r"`out`: got .*made of other pictures or with other opt"):
        folder.prepare(options(tmp_path / "photos", **changes), str(tmp_path / "out"))
    assert contents(tmp_path / "out") == before


def test_pictures_that_change_while_it_is_not_finished_are_made_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "_PICTURES", 4)
    pixels = photos(tmp_path / "photos", range(30))
    with monkeypatch.context() as patch:
        patch.setattr(shards, "check_classes", stop_after(3))
        with pytest.raises(KeyboardInterrupt):
            folder.prepare(options(tmp_path / "photos"), str(tmp_path / "out"))
    pixels |= photos(tmp_path / "photos", [*range(5), *range(30, 50)])
    _, rows = prepare(tmp_path / "photos", tmp_path / "out")
    assert set(rows) == set(pixels)
    for name, row in rows.items():
        np.testing.assert_array_equal(row["image"], pixels[name])


def stop_after(count):
    calls = iter(range(1, 10**6))

    def check(*_, **__):
        if next(calls) == count:
            raise KeyboardInterrupt

    return check


def test_unreadable_files_are_listed_or_refused(tmp_path):
    photos(tmp_path / "photos")
    for name in ("empty.jpg", "so so.png"):
        (tmp_path / "photos" / name).write_bytes(b"")
    (tmp_path / "photos" / "link.webp").symlink_to("nothing")
    with pytest.raises(ValueError, match=r"`folder`: got files that cannot be read \('"):
        folder.prepare(options(tmp_path / "photos", strict=True), str(tmp_path / "strict"))
    assert not (tmp_path / "strict" / "dataset_info.json").exists()
    prepared, rows = prepare(tmp_path / "photos", tmp_path / "out")
    assert [file for file, _ in prepared.skipped] == ["empty.jpg", "link.webp", "so so.png"]
    assert len(rows) == sum(prepared.counts.values()) == 12
    text = (tmp_path / "out" / "skipped.csv").read_text()
    assert text.splitlines()[:2] == ["file,reason", 'empty.jpg,"it is empty, 0 bytes"']


def test_a_file_with_nothing_readable_in_it_is_read(tmp_path, monkeypatch):
    """A file of records may be empty."""
    monkeypatch.setattr(shards, "_PICTURES", 1)
    photos(tmp_path / "photos")
    (tmp_path / "photos" / "empty.jpg").write_bytes(b"")
    _, rows = prepare(tmp_path / "photos", tmp_path / "out")
    assert len(rows) == 12


def test_splits_without_a_readable_picture(tmp_path):
    photos(tmp_path / "photos")
    for file in (tmp_path / "photos").iterdir():
        file.write_bytes(b"")
    with pytest.raises(ValueError, match=r"got no picture for train that can be read \('0.png'"):
        folder.prepare(options(tmp_path / "photos"), str(tmp_path / "out"))
    assert not (tmp_path / "out" / "dataset_info.json").exists()


def test_large_pictures_are_unreadable_by_the_limit_that_is_set(tmp_path):
    photos(tmp_path / "photos")
    save(np.zeros((100, 100, 3), np.uint8), tmp_path / "photos" / "large.png")
    prepared, _ = prepare(tmp_path / "photos", tmp_path / "out", max_pixels=9_999)
    ((file, reason),) = prepared.skipped
    assert (file, reason) == ("large.png", "it has 10,000 pixels, more than max_pixels = 9,999")
    prepared, _ = prepare(tmp_path / "photos", tmp_path / "out2", max_pixels=10_000)
    assert prepared.skipped == []


def test_folders_of_other_things_are_not_written_to(tmp_path):
    photos(tmp_path / "photos")
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("x")
    with pytest.raises(ValueError, match=r"`out`: got .*which holds 'thesis.tex'"):
        folder.prepare(options(tmp_path / "photos"), str(out))
    (out / "prepared.json").write_text("{")
    with pytest.raises(ValueError, match=r"`out`: got .*which cannot be read"):
        folder.prepare(options(tmp_path / "photos"), str(out))
    assert sorted(os.listdir(out)) == ["prepared.json", "thesis.tex"]
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match=r"`out`: got .*which cannot be written"):
        folder.prepare(options(tmp_path / "photos"), str(tmp_path / "file" / "out"))


def test_what_cannot_be_listed_leaves_no_folder(tmp_path):
    (tmp_path / "photos").mkdir()
    with pytest.raises(ValueError, match="with no files"):
        folder.prepare(options(tmp_path / "photos"), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_read_only_disk_is_read_from_but_not_written_to(small_disk, tmp_path):
    photos(small_disk.folder / "photos")
    small_disk.protect()
    with pytest.raises(ValueError, match=r"`out`: got .*cannot be written \(Read-only"):
        folder.prepare(options(small_disk.folder / "photos"), str(small_disk.folder / "out"))
    _, rows = prepare(small_disk.folder / "photos", tmp_path / "out")
    assert len(rows) == 12


def test_a_full_disk_ends_in_one_line_and_the_rest_goes_on(small_disk, tmp_path):
    photos(tmp_path / "photos", range(40))
    small_disk.resize("700k")
    out, log = small_disk.folder / "out", tmp_path / "log"
    run = Running(LAUNCHER, *flags(tmp_path, out), log=log, prepare=(small_files,))
    assert run.wait() == 1
    assert "No space left on device" in run.last_words
    assert run.last_words.startswith(f"error: `out`: got {out}")
    assert not (out / "dataset_info.json").exists()
    small_disk.resize("10m")
    run = Running(LAUNCHER, *flags(tmp_path, out), log=log, prepare=(small_files,))
    assert run.wait() == 0, run.said
    assert "out/config.py" in run.last_words


def test_two_at_once_do_not_mix(tmp_path):
    from mmdiffusion_jax import files

    photos(tmp_path / "photos")
    (tmp_path / "out").mkdir()
    with (
        files.locked(tmp_path / "out", "out"),
        pytest.raises(ValueError, match=r"`out`: got .*is writing to"),
    ):
        folder.prepare(options(tmp_path / "photos"), str(tmp_path / "out"))


def test_memory_does_not_grow_with_the_number_of_pictures(tmp_path, monkeypatch):
    """At most the pictures read ahead are held: records, the largest that is left, one by one."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    photos(tmp_path / "photos", range(300))
    held, most, original = [0], [0], examples.ExampleMaker.__call__

    class Record(bytes):
        def __del__(self):
            held[0] -= 1

    def make(self, entry):
        example = original(self, entry)
        held[0] += 1
        most[0] = max(most[0], held[0])
        return examples.dataclasses.replace(example, record=Record(example.record))

    monkeypatch.setattr(examples.ExampleMaker, "__call__", make)
    folder.prepare(options(tmp_path / "photos"), str(tmp_path / "out"))
    assert held[0] <= 1
    assert 2 <= most[0] <= 12


def test_all_cores_work_at_once(tmp_path, monkeypatch):
    """Three pictures are under way together, each waiting for the others."""
    import threading

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    photos(tmp_path / "photos", range(12))
    meeting, original = threading.Barrier(3, timeout=60), examples.ExampleMaker.__call__

    def make(self, entry):
        meeting.wait()
        return original(self, entry)

    monkeypatch.setattr(examples.ExampleMaker, "__call__", make)
    prepared = folder.prepare(options(tmp_path / "photos"), str(tmp_path / "out"))
    assert sum(prepared.counts.values()) == 12


def test_many_pictures_are_few_files():
    entries = [None] * 600_000
    planned = shards.plan_shards("train", entries, lambda part: "")
    assert len(planned) <= 1000
    assert [entry for shard in planned for entry in shard.entries] == entries
    assert len(shards.plan_shards("train", entries[:1000], lambda part: "")) == 4


def test_the_record_states_the_split(tmp_path):
    photos(tmp_path / "photos")
    prepare(tmp_path / "photos", tmp_path / "out")
    record = json.loads((tmp_path / "out" / "prepared.json").read_text())
    assert "SHA-256 of its relative path" in record["split"]
    assert "0.4" in record["split"]
    shutil.rmtree(tmp_path / "photos")
    assert len(open_tfds(tmp_path / "out", "train")) > 0
