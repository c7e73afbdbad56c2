"""Objects in buckets as files: whole or not at all, in spite of faults."""

import asyncio
import io
import json

import numpy as np
import pytest
from PIL import Image

from mmdiffusion_jax import files
from mmdiffusion_jax.files import lines


@pytest.fixture
def folder(place):
    return files.to_path(place)


@pytest.fixture
def quick(monkeypatch):
    """Waits of the libraries between two attempts are short."""
    sleep = asyncio.sleep
    monkeypatch.setattr(asyncio, "sleep", lambda seconds, *rest: sleep(min(seconds, 0.02), *rest))


def is_upload(method, path):
    return method in ("PUT", "POST") and "/upload" in path + ("/upload" if method == "PUT" else "")


def test_paths_are_those_of_files(folder, store):
    assert (folder.exists(), folder.is_dir()) == (False, False)
    file = folder / "a b" / "ü.json"
    files.write_text(file, "λ")
    assert (file.read_text(), file.read_bytes()) == ("λ", "λ".encode())
    assert (file.is_file(), file.is_dir()) == (True, False)
    assert (folder.is_file(), folder.is_dir()) == (False, True)
    assert file.stat().st_size == 2
    assert file.stat().st_mtime > 1.7e9
    assert [x.name for x in folder.iterdir()] == ["a b"]
    assert list(folder.rglob("*.json")) == list((folder / "a b").glob("*.json")) == [file]
    assert str(file).startswith(f"{store.scheme}://runs/")
    assert (folder / ".." / "x").resolve() == folder.parent / "x"
    assert files.same_place(f"{folder}/a/../b/", folder / "b")
    assert file.relative_to(folder).as_posix() == "a b/ü.json"
    file.unlink()
    file.unlink(missing_ok=True)
    assert not folder.exists()
    with pytest.raises(FileNotFoundError):
        file.read_text()


def write_half(path):
    with files.replacing(path) as stream:
        stream.write(b"half")
        stream.flush()
        raise RuntimeError("killed")


def test_an_object_that_is_not_finished_leaves_the_older_one(folder):
    files.write_text(folder / "a", "older")
    with pytest.raises(RuntimeError, match="killed"):
        write_half(folder / "a")
    assert [(x.name, x.read_text()) for x in folder.rglob("*")] == [("a", "older")]


@pytest.mark.filterwarnings("ignore:Sending a large body")
def test_pictures_arrays_and_large_objects(folder):
    image = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    files.write_png(folder / "a.png", image)
    with Image.open(io.BytesIO((folder / "a.png").read_bytes())) as picture:
        np.testing.assert_array_equal(np.asarray(picture), image)
    large = np.random.default_rng(0).integers(0, 256, 12_000_000, np.uint8)
    with files.replacing(folder / "a.npz") as stream:
        np.savez(stream, large=large)
    with files.local_copy(folder / "a.npz") as copy, np.load(copy) as arrays:
        np.testing.assert_array_equal(arrays["large"], large)
    assert not copy.exists()


def test_a_put_that_fails_five_times_goes_through(folder, store, quick):
    with store.proxy.failing(503, 5, is_upload) as rule:
        files.write_text(folder / "a", "whole")
    assert rule[3] == 5
    assert (folder / "a").read_text() == "whole"


def test_a_put_that_always_fails_is_an_error_and_costs_nothing(folder, store, quick):
    files.write_text(folder / "a", "older")
    with (
        store.proxy.failing(503, 10**6, is_upload),
        pytest.raises(OSError, match="the store refused"),
    ):
        files.write_text(folder / "a", "newer")
    assert (folder / "a").read_text() == "older"


def test_a_place_that_can_be_written_to(folder):
    assert files.writable_folder(str(folder), "out") == folder
    assert files.writable_file(folder / "a.html", "out", suffix=".html") == folder / "a.html"
    assert list(folder.rglob("*")) == []
    files.write_text(folder / "a" / "b", "")
    with pytest.raises(ValueError, match=r"`out`: got .*, which is a folder, expected a file"):
        files.writable_file(folder / "a", "out")


def test_a_bucket_that_is_not_there_is_named_and_not_made(store):
    missing = f"{store.scheme}://nobody-made-this/w"
    for check in (files.writable_folder, files.writable_file):
        with pytest.raises(ValueError, match=r"`workdir`: got .*nobody-made-this/w.*a bucket that"):
            check(missing, "workdir")
    with pytest.raises(ValueError, match="cannot be written to"), files.locked(missing, "workdir"):
        pass
    assert not files.to_path(missing).exists()


def test_no_permission_to_write(folder, store):
    with store.proxy.failing(403, 10**6, is_upload):
        for check in (files.writable_folder, files.writable_file):
            with pytest.raises(ValueError, match=r"`out`: got .*cannot be written to.*log in"):
                check(folder, "out")
        with pytest.raises(ValueError, match="cannot be written to"), files.locked(folder, "out"):
            pass
    assert not folder.exists()


def test_lines_are_parts_that_are_read_as_one(folder, monkeypatch):
    monkeypatch.setattr(lines, "_PART_BYTES", 10)
    file, texts = folder / "m.jsonl", [f'{{"step": {k}}}\n' for k in range(8)]
    writer = files.LineWriter(file)
    for text in texts[:3]:
        writer.append(text)
    # The first was put at once, what follows within a moment waits.
    assert files.read_lines(file).decode() == texts[0]
    writer.flush()
    assert files.read_lines(file).decode() == "".join(texts[:3])
    writer.append(texts[3])
    writer.close()
    assert len(list((folder / "m.jsonl.parts").glob("*"))) == 3
    # It goes on after two of them.
    writer = files.LineWriter(file, [text.encode() for text in texts[:2]])
    writer.append(texts[5])
    writer.close()
    assert files.read_lines(file).decode() == "".join([*texts[:2], texts[5]])
    assert files.read_lines(file) == file.read_bytes() + texts[5].encode()


def test_lines_of_a_run_that_was_killed_while_it_put_them_together_count_once(folder):
    file = folder / "m.jsonl"
    writer = files.LineWriter(file)
    for step in range(3):
        writer.append(json.dumps({"step": step}) + "\n")
    writer.close()
    whole = files.read_lines(file)
    files.write_text(file, whole.decode())
    assert files.read_lines(file) == whole
    files.LineWriter(file, [files.read_lines(file)]).close()
    assert file.read_bytes() == whole


def test_a_folder_on_the_disk_is_copied(folder):
    copied = files.Copied(folder / "events", seconds=60)
    (copied.disk / "run").mkdir()
    (copied.disk / "run" / "a").write_bytes(b"1")
    copied.copy_if_due()
    (copied.disk / "run" / "a").write_bytes(b"12")
    copied.copy_if_due()
    assert (folder / "events" / "run" / "a").read_bytes() == b"1"
    copied.close()
    assert (folder / "events" / "run" / "a").read_bytes() == b"12"
    assert not copied.disk.exists()


def test_objects_are_moved(folder):
    for name in ("5/a", "5/b/c", "6/a", "50"):
        files.write_text(folder / name, name)
    files.move(folder / "5", folder / "aside" / "5")
    files.move(folder / "50", folder / "aside" / "50")
    names = sorted(x.relative_to(folder).as_posix() for x in folder.rglob("*"))
    assert names == ["6/a", "aside/5/a", "aside/5/b/c", "aside/50"]
    assert (folder / "aside" / "5" / "b" / "c").read_text() == "5/b/c"
