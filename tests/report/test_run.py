"""The page of a run, read by a parser of HTML."""

import base64
import io
import json
import os
import re

import jax
import numpy as np
import pytest
from PIL import Image

from mmdiffusion_jax import experiment, files, report
from mmdiffusion_jax.report import history, sheets
from tests.report.workdirs import HOSTILE, Parsed, make_run, write_lines


def page(folder):
    report.write(folder)
    return Parsed((folder / "report.html").read_text(encoding="utf-8"))


def pixels(source):
    kind, _, data = source.partition(";base64,")
    assert kind in ("data:image/png", "data:image/jpeg")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))


def test_it_has_what_the_workdir_has(tmp_path):
    folder = make_run(tmp_path / "my run")
    view = page(folder)
    want = {}
    for text in (folder / "metrics.jsonl").read_text().splitlines():
        line = json.loads(text)
        for name in set(line) - {"step"}:
            steps, values = want.setdefault(name, ([], []))
            steps.append(line["step"])
            values.append(line[name])
    assert view.data["runs"][""] == {name: [*map(list, x)] for name, x in want.items()}
    drawn = [line["name"] for chart in view.data["charts"] for line in chart["lines"]]
    assert sorted(drawn) == sorted(want)
    places = [int(x["data-chart"]) for x in view.all("figure", class_="chart")]
    assert places == list(range(len(view.data["charts"])))
    assert [x["name"] for x in view.data["charts"][0]["lines"]] == ["train/loss", "eval/loss"]

    shown = [pixels(image["src"]) for image in view.all("img")]
    for k, sheet in enumerate(shown, start=1):
        kept = Image.open(folder / "samples" / f"samples_{k:08d}.png")
        np.testing.assert_array_equal(sheet, np.asarray(kept))
    assert len(shown) == 3
    (slider,) = view.all("input", type="range")
    assert (slider["min"], slider["max"], slider["value"]) == ("0", "2", "2")
    titles = [x["data-position"] for x in view.all("div", class_="pictures")]
    assert titles == ["step 1", "step 2", "step 3"]
    assert ["image/accuracy", "0.75", "higher ↑", "12"] in view.rows
    assert "Warning: by the features image, nothing." in view.text
    assert ["training.num_steps", "5", str(experiment.default_config().training.num_steps)] in (
        view.rows
    )
    assert "5 of 5" in view.text
    assert "Finished" in view.text
    assert "my run" in view.text


def test_names_cannot_break_it(tmp_path):
    view = page(make_run(tmp_path / "w", HOSTILE))
    assert [x for x in view.all("script") if x.get("type") is None] == [{}]
    assert len(view.all("script")) == 2
    assert len(view.all("title")) == 1
    for place in (f"{HOSTILE}/accuracy", f"modalities.{HOSTILE}.kind", f"1 × {HOSTILE}"):
        assert any(place in row for row in view.rows)
    assert f"train/{HOSTILE}/loss" in view.data["runs"][""]
    assert "Warning: by the features " + HOSTILE in view.text


def test_it_fetches_nothing(tmp_path):
    text = page(make_run(tmp_path / "w")) and (tmp_path / "w" / "report.html").read_text()
    for _, attributes in Parsed(text).elements:
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            assert attributes.get(name, "#").startswith(("#", "data:"))
    # The name of SVG's elements is the only address.
    assert set(re.findall(r"https?://[^\s\"']+", text)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"@import|url\(", text)


def test_sheets_are_spread_and_made_smaller(tmp_path, monkeypatch):
    folder = make_run(tmp_path / "w", sheets=100)
    shown = [x["data-position"] for x in page(folder).all("div", class_="pictures")]
    steps = [int(x.removeprefix("step ")) for x in shown]
    assert len(steps) <= sheets.MOST_SHEETS
    assert (steps[0], steps[-1]) == (1, 100)
    assert len({*np.diff(steps)[:-1]}) == 1

    # Noise is what PNG cannot make small; its means must stay.
    noise = np.random.default_rng(0).integers(0, 256, (900, 1800, 3)).astype(np.uint8)
    noise[:, 900:] //= 4
    folder = make_run(tmp_path / "large", sheets=0)
    Image.fromarray(noise).save(folder / "samples" / "samples_00000001.png")
    (image,) = page(folder).all("img")
    assert len(image["src"]) < 250_000 * 4 / 3 + 100
    small = pixels(image["src"])
    assert small.shape == (500, 1000, 3) == (int(image["height"]), int(image["width"]), 3)
    for half in (slice(500), slice(500, None)):
        whole = noise[:, half.start and 900 : 900 if half.start is None else None]
        assert abs(small[:, half].mean() - whole.mean()) < 2


def test_old_and_damaged_workdirs_have_a_page(tmp_path, caplog):
    folder = make_run(tmp_path / "w")
    (folder / "history.json").write_text("{")
    (folder / "metrics.json").write_text("[]")
    (folder / "config.json").write_text(json.dumps({"trainer": {"steps": 3}}))
    (folder / "samples" / "samples_00000002.png").write_bytes(b"\x89PNG")
    view = page(folder)
    assert len(view.all("img")) == 2
    assert "samples_00000002.png is left out of the page" in caplog.text
    assert ["trainer.steps", "3", "–"] in view.rows
    assert "It was not kept what this run was trained on." in view.text
    assert "Not evaluated yet" in view.text
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "There are no metrics yet." in page(empty).text


def test_it_is_kept_while_a_run_goes_on_and_is_resumed(tmp_path):
    folder = make_run(tmp_path / "w")
    (folder / "history.json").unlink()
    lines = [{"step": k, "train/loss": 1.0 / k} for k in range(1, 6)]
    states = []

    def look():
        view = Parsed((folder / "report.html").read_text(encoding="utf-8"))
        states.append(view.data["runs"][""]["train/loss"][0][-1])
        return view

    def fail():
        with report.live(folder) as written:
            write_lines(folder, lines[:2])
            written(2)
            assert "In training" in (view := look()).text
            assert "2 of 5" in view.text
            write_lines(folder, lines[:4])
            written(4)
            raise ValueError("no disk <b>")

    with pytest.raises(ValueError, match="no disk"):
        fail()
    assert "Stopped: no disk <b>" in look().text
    with report.live(folder) as written:
        # A resumed run begins with the lines up to its checkpoint.
        (folder / "metrics.jsonl").unlink()
        write_lines(folder, lines[:3])
        written(3)
        assert "In training" in (view := look()).text
        assert "3 of 5" in view.text
        write_lines(folder, lines)
        written(5)
    view = look()
    assert states == [2, 4, 3, 5]
    assert "Finished" in view.text
    noted = history.starts(folder)
    assert [x["outcome"] for x in noted] == ["no disk <b>", ""]
    assert noted[-1]["versions"]["jax"] == jax.__version__
    assert noted[-1]["devices"] == f"{jax.device_count()} × {jax.devices()[0].device_kind}"


def test_a_page_that_cannot_be_written_is_one_warning(tmp_path, caplog, monkeypatch):
    folder = make_run(tmp_path / "w")
    before = sorted(folder.iterdir())

    def refuse(path, text):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(files, "write_text", refuse)
    with report.live(folder) as written:
        for step in (1, 2, 3):
            written(step)
    assert caplog.text.count("is not up to date (OSError: [Errno 28] No space left") == 1
    assert sorted(folder.iterdir()) == before
    report.try_to_write(folder)
    assert caplog.text.count("is not up to date") == 2


def test_a_failed_page_leaves_the_one_before(tmp_path, monkeypatch):
    folder = make_run(tmp_path / "w")
    report.write(folder)
    before = (folder / "report.html").read_bytes()
    monkeypatch.setattr(os, "fsync", lambda number: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        report.write(folder)
    assert (folder / "report.html").read_bytes() == before
    assert not list(folder.glob(".report*"))


def test_other_processes_write_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    with report.live(tmp_path) as written:
        assert written is None
    assert list(tmp_path.iterdir()) == []
