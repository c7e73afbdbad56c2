"""Metrics as lines and as TensorBoard's records, pictures, and what a run that goes on drops."""

import json
import struct

import numpy as np
import pytest
from PIL import Image
from tensorboardX.proto.event_pb2 import Event

from mmdiffusion_jax import training

PICTURE = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)


def events(folder):
    """What TensorBoard reads: records of a length, its checksum, an event and its checksum."""
    for file in sorted((folder / "tensorboard").iterdir()):
        content = file.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            yield Event.FromString(content[12 : 12 + length])
            content = content[16 + length :]


def test_lines_and_records_have_the_same_scalars(tmp_path):
    with training.MetricWriter(tmp_path / "new") as writer:
        writer.write(3, {"train/loss": 0.5, "train/count": np.float32(2)})
        writer.write(3, {"eval/loss": np.array(0.25)})
    lines = training.read_metrics(tmp_path / "new" / "metrics.jsonl")
    assert lines == [
        {"step": 3, "train/loss": 0.5, "train/count": 2.0},
        {"step": 3, "eval/loss": 0.25},
    ]
    scalars = [
        (event.step, value.tag, value.simple_value)
        for event in events(tmp_path / "new")
        for value in event.summary.value
    ]
    assert scalars == [(3, "train/loss", 0.5), (3, "train/count", 2.0), (3, "eval/loss", 0.25)]


def test_pictures(tmp_path):
    with training.MetricWriter(tmp_path) as writer:
        writer.write_image(7, "pairs/grid", PICTURE)
    path = training.MetricWriter.image_path(tmp_path, 7, "pairs/grid")
    assert path == tmp_path / "samples" / "pairs" / "grid_00000007.png"
    np.testing.assert_array_equal(Image.open(path), PICTURE)
    (value,) = (value for event in events(tmp_path) for value in event.summary.value)
    assert (value.tag, value.image.height, value.image.width) == ("pairs/grid", 2, 3)


@pytest.mark.parametrize(
    ("image", "name", "argument"),
    [
        (PICTURE / 255, "grid", "image"),
        (PICTURE[..., 0], "grid", "image"),
        (PICTURE[:0], "grid", "image"),
        (PICTURE, "../grid", "name"),
        (PICTURE, "/grid", "name"),
    ],
)
def test_bad_pictures(tmp_path, image, name, argument):
    with (
        training.MetricWriter(tmp_path / "run") as writer,
        pytest.raises(ValueError, match=f"^`{argument}`: got"),
    ):
        writer.write_image(1, name, image)
    assert not list(tmp_path.rglob("*.png"))


@pytest.mark.parametrize("value", [np.zeros(2), "much", None])
def test_what_is_no_number_is_written_nowhere(tmp_path, value):
    with training.MetricWriter(tmp_path) as writer:
        with pytest.raises(ValueError, match=r"^`metrics`: got .* for 'b', expected one number"):
            writer.write(1, {"a": 1.0, "b": value})
        with pytest.raises(ValueError, match=r"^`metrics`: got 'step'"):
            writer.write(1, {"step": 1.0})
    assert (tmp_path / "metrics.jsonl").read_text() == ""


def test_metrics_resume_without_the_lines_that_will_come_again(tmp_path):
    with training.MetricWriter(tmp_path) as writer:
        for step in (1, 2, 3):
            writer.write(step, {"train/loss": step / 2, "train/bad": float("nan")})
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text() + '{"step": 4, "tra')
    with training.MetricWriter(tmp_path, resume_step=2) as writer:
        writer.write(3, {"train/loss": 9.0})
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert lines[-1]["train/loss"] == 9.0
    assert np.isnan(training.read_metrics(path)[0]["train/bad"])
    assert list((tmp_path / "tensorboard").iterdir())


def test_tensorboard_is_opened_by_what_is_written_first(tmp_path):
    """Its import takes a second where PyTorch is installed, which no first step should wait for."""
    with training.MetricWriter(tmp_path) as writer:
        assert not (tmp_path / "tensorboard").exists()
        writer.write(1, {"train/loss": 1.0})
        assert list((tmp_path / "tensorboard").iterdir())


def test_a_broken_line_in_the_middle_is_named_and_nothing_is_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"loss": 2}\n{"step": 3}\n')
    before = path.read_bytes()
    for read in (training.read_metrics, lambda _: training.MetricWriter(tmp_path, resume_step=1)):
        with pytest.raises(ValueError, match=r"^`path`: got line 2 of .*metrics.jsonl"):
            read(path)
    assert path.read_bytes() == before
    with pytest.raises(ValueError, match=r"^`resume_step`: got -1"):
        training.MetricWriter(tmp_path, resume_step=-1)


def test_a_mirror_gets_what_is_written_and_how_it_ended(tmp_path):
    seen = []

    class Mirror:
        def open(self, workdir):
            seen.append(("open", workdir))

        def write(self, step, metrics):
            seen.append((step, dict(metrics)))

        def write_image(self, step, name, image):
            seen.append((step, name, image.shape))

        def close(self, failed):
            seen.append(("close", failed))

    def run():
        with training.mirrored(Mirror()), training.MetricWriter(tmp_path) as writer:
            writer.write(1, {"a": 1})
            writer.write_image(1, "grid", PICTURE)
            raise RuntimeError("ends here")

    with pytest.raises(RuntimeError, match="ends here"):
        run()
    with training.MetricWriter(tmp_path):
        pass
    assert seen == [("open", tmp_path), (1, {"a": 1.0}), (1, "grid", (2, 3, 3)), ("close", True)]
