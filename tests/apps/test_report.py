"""The page of runs as the launch scripts leave it, and the command that makes it anew."""

import json

import pytest

from mmdiffusion_jax import apps
from tests.apps.small import launch
from tests.report.workdirs import Parsed, make_comparison, make_run


def parsed(file):
    return Parsed(file.read_text(encoding="utf-8"))


def test_training_leaves_its_page(finished):
    view = parsed(finished / "report.html")
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    for name in ("train/loss", "eval/loss", "train/gradient_norm/backbone"):
        want = [(line["step"], line[name]) for line in lines if name in line]
        assert [*zip(*view.data["runs"][""][name], strict=True)] == want
    assert "8 of 8" in view.text
    assert "Finished" in view.text
    (start,) = json.loads((finished / "history.json").read_text())
    assert start["outcome"] == ""
    assert "--config.training.num_steps=8" in start["flags"]
    assert "--config.training.num_steps=8" in view.text
    assert ["training.num_steps", "8", "4000"] in view.rows


def test_the_command_makes_it_of_a_run_and_of_a_comparison(tmp_path):
    run = make_run(tmp_path / "a run")
    done = launch("report", f"--workdir={run}")
    assert done.returncode == 0, done.stderr
    assert f"The page is {run / 'report.html'}" in done.stderr
    assert len(parsed(run / "report.html").all("img")) == 3
    before = sorted(run.iterdir())
    other = make_comparison(tmp_path / "several")
    assert apps.report(str(other), str(tmp_path / "x.html")) == tmp_path / "x.html"
    assert len(parsed(tmp_path / "x.html").all("img")) == 4
    assert not (other / "report.html").exists()
    assert sorted(run.iterdir()) == before


@pytest.mark.parametrize(
    ("workdir", "out", "words"),
    [
        ("empty", None, "`workdir`: got .*empty, expected the folder of a run or of a comparison"),
        ("run", "x.txt", "`out`: got .*x.txt.*, expected a file "),
        ("run", "missing/x.html", "`out`: got .*whose folder is not there"),
    ],
)
def test_bad_requests(tmp_path, workdir, out, words):
    (tmp_path / "empty").mkdir()
    make_run(tmp_path / "run")
    with pytest.raises(ValueError, match=words):
        apps.report(str(tmp_path / workdir), out and str(tmp_path / out))
    assert not list(tmp_path.rglob("*.html"))
