"""Files that are there whole or not at all."""

import errno
import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmdiffusion_jax import files

ROOT = Path(__file__).resolve().parents[1]


def write_half(path):
    with files.replacing(path) as stream:
        stream.write(b"half")
        stream.flush()
        assert path.read_text(encoding="utf-8") == "λ = 0.03"
        raise RuntimeError("killed")


def test_a_file_that_is_not_finished_leaves_the_older_one_and_nothing_else(tmp_path):
    path = tmp_path / "figures.json"
    files.write_text(path, "λ = 0.03")
    assert path.read_text(encoding="utf-8") == "λ = 0.03"
    with pytest.raises(RuntimeError, match="killed"):
        write_half(path)
    assert path.read_text(encoding="utf-8") == "λ = 0.03"
    assert list(tmp_path.iterdir()) == [path]


def listing(folder):
    return sorted(
        (str(path), path.read_bytes() if path.is_file() else b"") for path in folder.rglob("*")
    )


def refuse(*_, **__):
    raise OSError(errno.EROFS, "Read-only file system")


@pytest.fixture
def place(tmp_path):
    """A folder with a file in it."""
    (tmp_path / "file").write_text("older")
    return tmp_path


@pytest.mark.parametrize("path", ["new", "new/inner", "", "new/../other", "новая папка"])
def test_a_folder_that_can_be_written_to(place, path):
    before = listing(place)
    assert files.writable_folder(place / path, "out") == place / path
    assert listing(place) == before


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("file", "file is not a folder"),
        ("file/new/out", "file is not a folder"),
        ("n" * 300, "File name too long"),
        ("new/" + "n" * 300, "File name too long"),
        ("/proc/new", "cannot be written"),
        ("dangling", "dangling is not a folder"),
    ],
)
def test_a_folder_that_cannot_be_written_to(place, path, words):
    (place / "dangling").symlink_to(place / "nowhere")
    before = listing(place)
    with pytest.raises(ValueError, match=rf"^`out`: got .*{words}.*; choose another, or mend"):
        files.writable_folder(place / path, "out")
    assert listing(place) == before


@pytest.mark.parametrize("path", ["new.json", "file"])
def test_a_file_that_can_be_written(place, path):
    before = listing(place)
    assert files.writable_file(place / path, "out") == place / path
    assert files.writable_file(place / "no" / path, "out", make_folder=True).name == path
    assert listing(place) == before


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("", "which is a folder, expected a file; name a file in it"),
        ("none/f.json", "whose folder is not there.*make .*none first"),
        ("file/f.json", "file is not a folder"),
        ("n" * 300, "File name too long"),
        ("/proc/f.json", "cannot be written"),
    ],
)
def test_a_file_that_cannot_be_written(place, path, words):
    before = listing(place)
    with pytest.raises(ValueError, match=rf"^`out`: got .*{words}"):
        files.writable_file(place / path, "out")
    assert listing(place) == before


@pytest.mark.parametrize("call", ["mkdir", "fsync", "replace"])
def test_writing_is_tried_as_it_will_be_done(place, monkeypatch, call):
    """A read-only file system or a full disk may refuse at any step."""
    before = listing(place)
    monkeypatch.setattr(os, call, refuse)
    for check in (files.writable_folder, files.writable_file):
        with pytest.raises(ValueError, match=r"`out`: got .*Read-only file system"):
            check(place / "new", "out")
    assert listing(place) == before


def test_what_a_killed_process_has_left_is_removed_later(place):
    for name, age in ((".probe.abc.4711", 2 * 3600), (".probe.def.4712", 10)):
        (place / name / "new").mkdir(parents=True)
        then = time.time() - age
        os.utime(place / name, (then, then))
        assert files.is_unfinished(place / name)
    files.writable_folder(place / "new", "out")
    assert sorted(path.name for path in place.iterdir()) == [".probe.def.4712", "file"]


def test_home_is_expanded_wherever_the_shell_did_not(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert files.local_path("~", "out") == tmp_path
    assert files.local_path("~/a b/c", "out") == tmp_path / "a b" / "c"
    assert files.writable_folder("~/new", "out") == tmp_path / "new"
    for plain in ("a~b", "./~", "/x/~/y", "C:/runs", "a:b", "a:b/c", "train[:90%]"):
        assert files.local_path(plain, "out") == Path(plain)


@pytest.mark.parametrize(
    "url", ["hdfs://h/x", "file:///x", "https://x.y/z", "GS://b", "az://b/x", Path("http://b/x")]
)
def test_a_url_is_refused_at_once(url):
    for check in (files.local_path, files.to_path, files.writable_folder, files.writable_file):
        with pytest.raises(ValueError, match=r"`out`: got '.*expected a path of a mounted file"):
            check(url, "out")


@pytest.mark.parametrize("url", ["gs://b/x", "s3://b", Path("gs://b/x")])
def test_data_are_on_disks(url):
    with pytest.raises(ValueError, match=r"`path`: got '.*expected a path of a mounted file"):
        files.local_path(url, "path")


@pytest.mark.parametrize("url", ["gs://", "gs:///runs", "s3://Runs/x", "s3://b"])
def test_a_url_without_a_bucket(url):
    with pytest.raises(ValueError, match=r"`workdir`: got '.*expected (gs|s3)://BUCKET/FOLDER"):
        files.to_path(url, "workdir")


def test_a_bucket_without_its_library(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"as gcsfs is not installed; install the extra cloud"):
        files.to_path("gs://runs/a", "workdir")


@pytest.mark.parametrize("path", ["~nobody-of-this-name/x", ""])
def test_what_is_no_path(path):
    with pytest.raises(ValueError, match="`out`: got "):
        files.local_path(path, "out")


def test_errors_do_not_name_the_hidden_file(place):
    for path, kind, words in (
        ("none/f.json", FileNotFoundError, "No such folder: '.*none'$"),
        ("file/f.json", NotADirectoryError, "Not a directory: '.*file/f.json'$"),
        ("", IsADirectoryError, f"Is a directory: '{place}'$"),
    ):
        with pytest.raises(kind, match=words):
            files.write_text(place / path, "")


WITHOUT_LOCKS = """
import importlib, sys
sys.modules["fcntl"] = None
for name in ("metrics", "data", "process", "objective", "sampling", "apps"):
    importlib.import_module(f"mmdiffusion_jax.{name}")
from mmdiffusion_jax import files
with files.locked(sys.argv[1], "workdir"):
    files.write_text(f"{sys.argv[1]}/a", "whole")
"""


def test_a_system_without_locks_imports_and_writes_all_and_is_warned(tmp_path):
    """Where Python has no module `fcntl` and there is no Windows either."""
    command = [sys.executable, "-W", "ignore", "-c", WITHOUT_LOCKS, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "see to it yourself that no other process writes to" in done.stderr
    assert (tmp_path / "a").read_text() == "whole"
