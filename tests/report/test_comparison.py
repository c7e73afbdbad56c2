"""The page of a comparison, read by a parser of HTML."""

import json
import re

from mmdiffusion_jax import report
from tests.report.workdirs import HOSTILE, Parsed, make_comparison


def page(folder):
    report.write(folder)
    return Parsed((folder / "report.html").read_text(encoding="utf-8"))


def test_it_has_the_table_the_curves_and_the_sheets(tmp_path):
    folder = make_comparison(tmp_path / "w")
    # A run that is still going on has no figures, and is drawn all the same.
    view = page(folder)
    assert ["figure", "examples", "multi", "single"] in view.rows
    assert ["joint/recall ↑", "12", "0.7 ± 0.1", "0.9 ± 0.1 (▼ worse)"] in view.rows
    assert ["joint/frechet ↓", "12", "0.7 ± 0.1", "0.9 ± 0.1 (▲ better)"] in view.rows
    assert len(view.all("span", class_="verdict worse")) == 1
    assert "Warning: by the features f, blurred images" in view.text
    assert "in brackets, how multi compares." in view.text

    (loss,) = (x for x in view.data["charts"] if x["lines"][0]["name"] == "train/loss")
    assert [line["run"] for line in loss["lines"]] == [
        f"{arm}-joint-5-seed{seed}" for arm in ("multi", "single") for seed in (0, 1)
    ]
    assert view.data["labels"] == ["multi · joint", "single · joint"]
    for name, curves in view.data["runs"].items():
        lines = map(json.loads, (folder / name / "metrics.jsonl").read_text().splitlines())
        want = [(line["step"], line["train/loss"]) for line in lines if "train/loss" in line]
        assert [*zip(*curves["train/loss"], strict=True)] == want
        assert not [x for x in curves if "gradient_norm/" in x]

    titles = [x["data-position"] for x in view.all("div", class_="pictures")]
    assert titles == ["seed 0", "seed 1"]
    assert [x["alt"] for x in view.all("img")] == [
        f"Sheet of joint: {arm} · joint, 5 steps" for _ in range(2) for arm in ("multi", "single")
    ]
    assert ["augmentation.rate", "5.0", "6.0"] in view.rows
    assert not re.search(r"https?://", (folder / "report.html").read_text().partition("<script")[0])


def test_sheets_of_training_stand_side_by_side_at_one_step(tmp_path):
    folder = make_comparison(tmp_path / "w", seeds=1)
    for arm, steps in (("multi", (1, 2)), ("single", (2, 3))):
        run = folder / f"{arm}-joint-5-seed0"
        for step in steps:
            (run / "samples" / f"samples_{step:08d}.png").write_bytes(
                (run / "joint.png").read_bytes()
            )
    view = page(folder)
    titles = [x["data-position"] for x in view.all("div", class_="pictures")]
    assert titles == ["seed 0", "seed 0, step 1", "seed 0, step 2", "seed 0, step 3"]
    # The step that both arms have is seen at first.
    (slider,) = view.all("input", type="range")
    assert slider["value"] == "1"
    assert [x["alt"] for x in view.all("img")][3:5] == [
        f"Sheet of samples: {arm} · joint, 5 steps" for arm in ("multi", "single")
    ]


def test_a_comparison_that_has_just_begun_and_hostile_arms(tmp_path):
    folder = tmp_path / "w"
    folder.mkdir()
    (folder / "costs.json").write_text(json.dumps({f"{HOSTILE}/x": {}, "[a]*/joint": {}}))
    view = page(folder)
    assert "No run is evaluated yet." in view.text
    arms = ("[a]*", "<b>&")
    view = page(make_comparison(tmp_path / "other", arms, seeds=1))
    assert view.data["labels"] == [f"{arm} · joint" for arm in arms]
    assert view.all("b") == []
    assert ["figure", "examples", *arms] in view.rows
