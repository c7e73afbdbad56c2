"""Samples as picture files: every one, in its colours, resumed, and not in the way of shards."""

import json
import types

import numpy as np
import pytest
from PIL import Image

from mmdiffusion_jax import files, modalities
from mmdiffusion_jax.apps.pictures import draw_shards
from mmdiffusion_jax.apps.shards import open_shards, write_shards

COUNT, SIZE = 7, 3
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (COUNT, 4, 5, 3)).astype(np.uint8)
LABELS = np.array([3, 1, 4, 1, 5, 9, 2])
MODEL = types.SimpleNamespace(
    modalities={
        "image": modalities.Image(latent=(4, 5, 3)),
        "label": modalities.Label(latent=(4, 5, 3), num_classes=10),
    }
)


@pytest.fixture
def shards(tmp_path):
    def make(first, count):
        return {"image": IMAGES[first : first + count], "label": LABELS[first : first + count]}

    request = {"num_samples": COUNT, "shard_size": SIZE}
    write_shards(tmp_path / "out", request, COUNT, SIZE, make)
    return open_shards(tmp_path / "out")


def listing(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_every_sample_is_a_picture_and_a_line(shards):
    folder = draw_shards(MODEL, shards)
    assert folder == shards.folder / "png"
    lines = []
    for record in sorted(folder.glob("*.jsonl")):
        lines += [json.loads(line) for line in record.read_text().splitlines()]
    assert [line["sample"] for line in lines] == list(range(COUNT))
    assert [line["label"] for line in lines] == [str(label) for label in LABELS]
    for line, image in zip(lines, IMAGES, strict=True):
        assert line["image"] == f"image/{line['sample']:05d}.png"
        with Image.open(folder / line["image"]) as picture:
            np.testing.assert_array_equal(np.asarray(picture), image)
    assert len(list((folder / "image").iterdir())) == COUNT


def test_what_is_there_is_kept_and_what_is_missing_is_made(shards):
    folder = draw_shards(MODEL, shards)
    before = listing(folder)
    draw_shards(MODEL, shards)
    assert listing(folder) == before
    (folder / "image" / "00004.png").unlink()
    (folder / "image" / ".00004.png.4711").write_bytes(b"half")
    draw_shards(MODEL, shards)
    after = listing(folder)
    assert after.keys() == before.keys()
    changed = {path.name for path in after if after[path] != before[path]}
    second = {"00003.png", "00004.png", "00005.png", "samples-00001-of-00003.jsonl"}
    assert changed == second


@pytest.mark.parametrize("harm", ["", '{"sample": 3}\n', "[1]\n"])
def test_a_damaged_record_is_made_anew(shards, harm):
    folder = draw_shards(MODEL, shards)
    record = folder / "samples-00001-of-00003.jsonl"
    whole = record.read_text()
    record.write_text(harm)
    draw_shards(MODEL, shards)
    assert record.read_text() == whole


def test_one_that_is_stopped_goes_on(shards, monkeypatch):
    write, written = files.write_png, []

    def stop(path, *args, **options):
        if len(written) == 4:
            raise KeyboardInterrupt
        written.append(path)
        write(path, *args, **options)

    monkeypatch.setattr(files, "write_png", stop)
    with pytest.raises(KeyboardInterrupt):
        draw_shards(MODEL, shards)
    folder = shards.folder / "png"
    assert [path.name for path in folder.glob("*.jsonl")] == ["samples-00000-of-00003.jsonl"]
    monkeypatch.setattr(files, "write_png", write)
    first = listing(folder)[folder / "image" / "00000.png"]
    draw_shards(MODEL, shards)
    assert len(list((folder / "image").iterdir())) == COUNT
    assert listing(folder)[folder / "image" / "00000.png"] == first


def test_folders_that_are_no_samples(shards, tmp_path):
    with pytest.raises(ValueError, match=r"`out`: got .*no readable request\.json"):
        open_shards(tmp_path)
    shards[1].unlink()
    with pytest.raises(ValueError, match=r"`out`: got .*which lacks samples-00001-of-00003\.npz"):
        open_shards(shards.folder)
