"""Shards on disk: whole or not there, resumed, and never mixed with another request."""

import errno
import json
import os
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from mmdiffusion_jax.apps.shards import Shards, write_shards


class Maker:
    """Numbers its samples, and remembers what it was asked for."""

    def __init__(self, stop_at=None):
        self.calls, self.stop_at = [], stop_at

    def __call__(self, first, count):
        if first == self.stop_at:
            raise KeyboardInterrupt
        self.calls.append((first, count))
        return {"x": np.arange(first, first + count), "y": np.zeros((count, 2), np.uint8)}


def write(folder, make, total=7, size=3, **request):
    return write_shards(folder, {"seed": 0, **request}, total, size, make)


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_every_sample_once_and_in_order(tmp_path):
    make = Maker()
    files = write(tmp_path / "out", make)
    assert [file.name for file in files] == [f"samples-{i:05d}-of-00003.npz" for i in range(3)]
    assert np.concatenate([np.load(file)["x"] for file in files]).tolist() == list(range(7))
    assert make.calls == [(0, 3), (3, 3), (6, 1)]


def test_an_interrupted_run_goes_on_and_ends_as_if_it_had_not_been(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "cut", Maker(stop_at=6))
    again = Maker()
    write(tmp_path / "cut", again)
    assert again.calls == [(6, 1)]
    write(tmp_path / "whole", Maker())
    cut, whole = contents(tmp_path / "cut"), contents(tmp_path / "whole")
    assert cut.keys() == whole.keys()
    for name in whole:
        if name.endswith(".npz"):
            np.testing.assert_array_equal(
                *(np.load(tmp_path / folder / name)["x"] for folder in ("cut", "whole"))
            )


@pytest.mark.parametrize("damage", ["cut", "flip", "short"])
def test_a_damaged_shard_is_made_anew(tmp_path, damage):
    files = write(tmp_path, Maker())
    whole = files[1].read_bytes()
    if damage == "cut":
        files[1].write_bytes(whole[: len(whole) // 2])
    elif damage == "flip":
        place = whole.index(b"NUMPY") + 140
        files[1].write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    else:
        np.savez(files[1], x=np.arange(2), y=np.zeros((2, 2), np.uint8))
    again = Maker()
    write(tmp_path, again)
    assert again.calls == [(3, 3)]
    assert np.load(files[1])["x"].tolist() == [3, 4, 5]


@pytest.mark.parametrize(
    ("change", "word"), [({"seed": 1}, "seed"), ({"guidance": {"label": 2.0}}, "guidance")]
)
def test_another_request_is_refused_and_nothing_touched(tmp_path, change, word):
    write(tmp_path, Maker())
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=rf"`out`: got .*something else in it \({word}\)"):
        write(tmp_path, Maker(), **change)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("text", [None, "{", "[1]"])
def test_a_folder_of_other_things_is_refused(tmp_path, text):
    (tmp_path / "thesis.tex").write_text("years of work")
    if text is not None:
        (tmp_path / "request.json").write_text(text)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=r"no readable request\.json"):
        write(tmp_path, Maker())
    assert contents(tmp_path) == before


def test_a_first_shard_that_fails_leaves_no_folder(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "out", Maker(stop_at=0))
    assert not (tmp_path / "out").exists()


def test_a_write_that_fails_leaves_no_half_file(tmp_path, monkeypatch):
    replace = os.replace

    def fail(source, target):
        if "samples-" in str(target):
            raise OSError("disk full")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write(tmp_path, Maker())
    assert [file.name for file in tmp_path.iterdir()] == ["request.json"]


def test_a_folder_that_cannot_be_written_to_is_refused_before_anything_is_made(tmp_path):
    (tmp_path / "file").write_text("")
    make = Maker()
    for folder in (tmp_path / "file" / "out", tmp_path / "file"):
        with pytest.raises(ValueError, match="`out`: got "):
            write(folder, make)
    assert make.calls == []


def test_what_is_whole_is_read_from_a_folder_that_cannot_be_written_to(tmp_path, monkeypatch):
    first = write(tmp_path, Maker())

    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    assert list(write(tmp_path, Maker())) == list(first)
    first[1].unlink()
    again = Maker()
    with pytest.raises(ValueError, match=r"`out`: got .*which cannot be written \(Permission"):
        write(tmp_path, again)
    assert again.calls == []


def test_memory_does_not_grow_with_the_number_of_shards(tmp_path):
    """Of 10¹¹ samples, or 2 · 10⁷ shards, the first are made as fast as of a few."""
    make = Maker(stop_at=10)
    tracemalloc.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path, make, 10**11, 5)
        assert tracemalloc.get_traced_memory()[1] < 10**6
    finally:
        tracemalloc.stop()
    names = sorted(path.name for path in tmp_path.glob("*.npz"))
    assert names == [f"samples-{i:011d}-of-20000000000.npz" for i in range(2)]


def test_names_sort_as_numbers():
    for count in (99_999, 100_000, 1_234_567):
        shards = Shards(Path("out"), 3 * count - 1, 3)
        assert len(shards) == count
        some = [0, 9, 99_998, count - 1]
        assert sorted(shards[index].name for index in some) == [shards[i].name for i in some]
        assert shards.rows(count - 1) == range(3 * count - 3, 3 * count - 1)
        assert shards[-1] == shards[count - 1]
        with pytest.raises(IndexError):
            shards[count]


def test_the_request_is_readable(tmp_path):
    write(tmp_path, Maker(), guidance={"label": 2.0})
    request = json.loads((tmp_path / "request.json").read_text())
    assert request["guidance"] == {"label": 2.0}


@pytest.mark.parametrize(("total", "size", "word"), [(0, 3, "num_samples"), (3, 0, "shard_size")])
def test_bad_numbers(tmp_path, total, size, word):
    with pytest.raises(ValueError, match=f"`{word}`: got 0, expected 1 or more"):
        write(tmp_path / "out", Maker(), total, size)
    assert not (tmp_path / "out").exists()
