"""What `apps.evaluate` prints and keeps where figures differ, fail, or cannot be written."""

import dataclasses
import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from mmdiffusion_jax import apps, data, evaluation, experiment
from mmdiffusion_jax.evaluation import Figure
from tests.report.workdirs import Parsed


@pytest.fixture
def workdirs(tmp_path, monkeypatch):
    """Two workdirs whose figures the test sets, {workdir: figures}."""
    figures = {}
    config = experiment.default_config()
    source = data.ArraySource({"label": np.arange(4), "label_present": np.arange(4) < 3})

    kind = types.SimpleNamespace(is_image=False)
    model = types.SimpleNamespace(primary="label", modalities={"image": kind, "label": kind})
    built = types.SimpleNamespace(model=model)

    def load(workdir, options, checkpoint):
        return config, built, workdir

    monkeypatch.setattr(sys.modules[apps.evaluate.__module__], "load", load)
    monkeypatch.setattr(experiment, "read_config", lambda workdir: config)
    monkeypatch.setattr(experiment, "open_data", lambda config, whole: (source, source))
    monkeypatch.setattr(evaluation, "evaluate", lambda built, workdir, *splits: figures[workdir])
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        figures[str(tmp_path / name)] = [Figure("loss", 0.5, 3)]
    return figures


def test_runs_with_different_figures(workdirs, capsys):
    one, other = workdirs
    workdirs[one] = [Figure("loss", 1.0, 3), Figure("accuracy", reason="no label")]
    workdirs[other] = [Figure("loss", 2.0, 3), Figure("accuracy", 0.25, 3)]
    apps.evaluate([one, other])
    said = capsys.readouterr().out
    assert f"# {one}: 4 test examples, 'label' in 3 of them" in said
    assert "accuracy" + " " * 34 + "left out: no label" in said
    mean = said.partition("# mean and standard deviation over 2 runs\n")[2].splitlines()
    assert [line.split() for line in mean] == [
        ["loss", "1.5000", "±", "0.7071"],
        ["accuracy", "0.2500", "(1", "of", "2", "runs)"],
    ]
    kept = json.loads(Path(one, "metrics.json").read_text())
    assert kept == {
        "loss": 1.0, "num_examples": {"loss": 3}, "left_out": {"accuracy": "no label"},
    }  # fmt: skip


def test_a_workdir_that_cannot_be_written_to(workdirs, capsys, caplog, monkeypatch):
    one, other = workdirs

    def refuse(file, text):
        raise OSError(30, "Read-only file system", str(file))

    monkeypatch.setattr(apps.evaluate.__globals__["files"], "write_text", refuse)
    apps.evaluate([one, other])
    said = capsys.readouterr().out
    assert said.count("loss" + " " * 38 + "0.5000  (3)") == 2
    assert "metrics.json is not written" in caplog.text


def test_figures_are_printed_as_they_come(workdirs, capsys):
    (one, _) = workdirs

    def stopped():
        yield Figure("loss", 1.0, 3)
        raise KeyboardInterrupt

    workdirs[one] = stopped()
    with pytest.raises(KeyboardInterrupt):
        apps.evaluate([one])
    assert "loss" + " " * 38 + "1.0000  (3)" in capsys.readouterr().out


def test_a_figure_that_is_infinite_is_json(workdirs):
    one, _ = workdirs
    workdirs[one] = [Figure("psnr", float("inf"), 3)]
    apps.evaluate([one])
    assert json.loads(Path(one, "metrics.json").read_text())["psnr"] == "inf"


@pytest.fixture
def fitted(monkeypatch):
    """The judges that were fitted, and what they make of shams."""
    fitted = []

    class Fitted:
        features_name, num_samples = "pixels <b>", 5
        serves = staticmethod(lambda built: True)

        def __init__(self, *arguments):
            fitted.append(self)

        def check(self):
            pass

    monkeypatch.setattr(evaluation, "RealData", Fitted)
    shams = evaluation.ShamTest("pixels <b>", {"judge/image_label/accuracy": 0.5})

    def sham_test(real):
        return dataclasses.replace(shams, features=real.features_name)

    monkeypatch.setattr(evaluation, "sham_test", sham_test)
    return fitted, shams


def test_judges_are_fitted_once_for_runs_that_differ_in_their_seeds(workdirs, fitted, monkeypatch):
    module = sys.modules[apps.evaluate.__module__]
    _, built, _ = module.load("", {}, "")

    def load(workdir, options, checkpoint):
        config = experiment.default_config()
        config.seed, config.evaluation.judge_steps = configs[workdir]
        return config, built, workdir

    monkeypatch.setattr(module, "load", load)
    configs = dict(zip(workdirs, [(0, 2), (1, 2)]))
    apps.evaluate(list(workdirs))
    assert len(fitted[0]) == 1
    configs = dict(zip(workdirs, [(0, 2), (0, 3)]))
    apps.evaluate(list(workdirs))
    assert len(fitted[0]) == 3
    # The squares that are hidden in test examples depend on the seed.
    split = data.Derived(data.ArraySource({"label": np.arange(4)}), {}, seed=0)
    monkeypatch.setattr(experiment, "open_data", lambda config, whole: (split, split))
    configs = dict(zip(workdirs, [(0, 2), (1, 2)]))
    apps.evaluate(list(workdirs))
    assert len(fitted[0]) == 5


def test_what_the_judges_make_of_shams_is_kept_and_shown(workdirs, fitted):
    one, _ = workdirs
    _, shams = fitted
    apps.evaluate([one])
    kept = json.loads(Path(one, "metrics.json").read_text())
    assert kept["features"] == "pixels <b>"
    assert kept["sham_test"] == {"warnings": shams.warnings, "figures": dict(shams.figures)}
    page = Parsed(Path(one, "report.html").read_text(encoding="utf-8"))
    assert f"Warning: {shams.warnings[0]}." in page.text
    assert "Features: pixels <b>." in page.text
    assert ["loss", "0.5", "", "3"] in page.rows


def test_no_means_over_figures_of_different_judges(workdirs, fitted, capsys):
    judges, _ = fitted
    alike = apps.evaluate([*workdirs])
    assert len(alike) == 2
    assert "# mean and standard deviation over 2 runs" in capsys.readouterr().out
    type(judges[0]).features_name = property(lambda self: f"network {len(judges)}")
    # Each workdir has judges of its own.
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(apps.evaluate.__globals__, "_judged", lambda config, test: len(judges))
        apps.evaluate([*workdirs])
    said = capsys.readouterr().out
    assert "# mean and standard deviation" not in said
    assert "# no means over runs that are judged by different network" in said
