"""Weights & Biases beside the other writers, by a stand-in of its package."""

import json
import logging
import sys
import types

import numpy as np
import pytest

from mmdiffusion_jax import training

PICTURE = np.zeros((2, 3, 3), np.uint8)


class Project:
    """What `wandb` would have kept: its calls, in order."""

    def __init__(self, fails=()):
        self.calls, self.fails = [], fails

    def module(self):
        module = types.ModuleType("wandb")
        module.init = lambda **options: self._call("init", options) or self.run()
        module.Image = lambda image: ("picture", image.shape)
        return module

    def run(self):
        run = types.SimpleNamespace()
        run.log = lambda metrics, step: self._call("log", (step, metrics))
        run.finish = lambda exit_code: self._call("finish", exit_code)
        return run

    def _call(self, name, value):
        self.calls.append((name, value))
        if name in self.fails:
            raise RuntimeError("no network")


def write(workdir, project="digits", start=0, error=None):
    mirror = training.WandbMirror(project, {"seed": 0})
    with training.mirrored(mirror), training.MetricWriter(workdir, start) as writer:
        writer.write(start + 1, {"train/loss": 0.5})
        writer.write_image(start + 1, "samples", PICTURE)
        if error:
            raise error


@pytest.fixture
def wandb(monkeypatch):
    def install(**options):
        project = Project(**options)
        monkeypatch.setitem(sys.modules, "wandb", project.module())
        return project

    return install


def test_it_gets_what_the_others_get(wandb, tmp_path):
    project = wandb()
    write(tmp_path)
    (_, options), *rest = project.calls
    kept = json.loads((tmp_path / "wandb.json").read_text())
    assert options == {
        "project": "digits", "id": kept["id"], "resume": "allow", "dir": str(tmp_path),
        "name": tmp_path.name, "config": {"seed": 0},
    }  # fmt: skip
    assert rest == [
        ("log", (1, {"train/loss": 0.5})),
        ("log", (1, {"samples": ("picture", (2, 3, 3))})),
        ("finish", 0),
    ]


def test_a_run_that_goes_on_is_the_same_one_there(wandb, tmp_path):
    project = wandb()
    write(tmp_path)
    write(tmp_path, start=1)
    write(tmp_path, project="another", start=2)
    ids = [options["id"] for name, options in project.calls if name == "init"]
    assert ids[0] == ids[1] != ids[2]


@pytest.mark.parametrize("fails", [("init",), ("log",), ("finish",), ("init", "log", "finish")])
def test_its_failures_end_nothing_and_are_warned_of_once(wandb, tmp_path, caplog, fails):
    wandb(fails=fails)
    with caplog.at_level(logging.WARNING):
        write(tmp_path)
    assert caplog.text.count("Weights & Biases failed (RuntimeError: no network)") == 1
    assert len(training.read_metrics(tmp_path / "metrics.jsonl")) == 1


def test_an_error_of_the_run_is_told(wandb, tmp_path):
    project = wandb()
    with pytest.raises(FloatingPointError):
        write(tmp_path, error=FloatingPointError())
    assert project.calls[-1] == ("finish", 1)


def test_without_the_package_nothing_begins(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ValueError, match="`wandb`: got 'digits', and wandb cannot be imported"):
        write(tmp_path / "w")
    assert not (tmp_path / "w").exists()


def test_writers_outside_the_block_are_not_mirrored(wandb, tmp_path):
    project = wandb()
    with training.mirrored(training.WandbMirror("digits", {})):
        pass
    with training.MetricWriter(tmp_path) as writer:
        writer.write(1, {"train/loss": 0.5})
    assert project.calls == []
