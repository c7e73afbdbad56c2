"""The comparison of arms from end to end, on the digits, in a few steps."""

import json
import signal
import types

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image
from sklearn.datasets import load_digits

from configs import smoke
from mmdiffusion_jax import apps, baselines, evaluation, metrics, modalities
from mmdiffusion_jax.apps import costs
from mmdiffusion_jax.apps.compare_arms import _draw
from mmdiffusion_jax.apps.costs import measure_costs
from mmdiffusion_jax.training import loop


def config(folder):
    config = smoke.get_config()
    config.data.folder = str(folder)
    config.process.num_steps = 3
    config.backbone.width, config.backbone.depth = 16, 1
    config.training.warmup_steps = 1
    config.training.batch_size = 8
    config.evaluation.num_samples = 12
    config.evaluation.num_scored = 12
    config.sampling.batch_size = 12
    return config


def half_labelled(folder):
    """Digits as files, of which every other label is absent; and a column that nobody asked for."""
    digits = load_digits()
    images = np.round(digits.images * 255 / 16).astype(np.uint8)[..., None]
    for split, rows in (("train", slice(200)), ("test", slice(200, 260))):
        present = np.arange(len(images[rows])) % 2 == 0
        label = np.where(present, digits.target[rows], -1)
        names = np.array([f"digit {k}" for k in range(len(label))])
        np.savez(folder / f"{split}.npz", image=images[rows], label=label, label_present=present,
                 name=names)  # fmt: skip


@pytest.mark.long
def test_two_arms_with_equal_operations(tmp_path, capsys, monkeypatch):
    """The single-task arm has two runs, which share the operations of the one.

    One of them trains on images alone, though the data say which labels are present.
    """
    half_labelled(tmp_path)

    def compare(judge_steps=2, **sampling):
        workdir, arms = str(tmp_path / "w"), ["multi", "single"]
        asked = config(tmp_path)
        asked.data.source = "npz"
        asked.data.train, asked.data.test = (
            str(next(tmp_path.glob(f"{split}*.npz"))) for split in ("train", "test")
        )
        asked.sampling.update(sampling)
        asked.evaluation.features, asked.evaluation.judge_steps = "classifier", judge_steps
        asked.training.log_every = 1
        return apps.compare_arms(asked, workdir, arms, 1, 4, ["flops"])

    # All calls have the same arms, so that the cost of their steps is measured once.
    measured = []
    monkeypatch.setattr(
        costs,
        "measure_costs",
        lambda parts, *of: measured.append(list(parts)) or measure_costs(parts, *of),
    )

    # A signal comes while the first step is logged: the second is saved, and nothing evaluated.
    summarise = loop.summarise

    def stopped(values):
        signal.raise_signal(signal.SIGTERM)
        return summarise(values)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "summarise", stopped)
        with pytest.raises(KeyboardInterrupt, match="is at step 2 of 4; run again to go on"):
            compare()
    assert not list((tmp_path / "w").rglob("figures.json"))
    assert (tmp_path / "w" / "multi-joint-4-seed0" / "checkpoints" / "2").is_dir()

    table = compare()
    assert table in capsys.readouterr().out
    # Of twelve given test images every other one has a label.
    assert "| label_given_image/accuracy ↑ | 6 |" in table
    results = json.loads((tmp_path / "w" / "comparison.json").read_text())
    (outsider,) = results["labels_by_svm"]
    assert outsider["num_test"] == 6
    assert str(evaluation.SvmAccuracy(**outsider)) in table
    kept = metrics.SmallClassifier.load(tmp_path / "w" / "features.safetensors")
    assert results["features"] == kept.identity
    assert {row["arm"]: row["steps"] for row in results["runs"]} == {
        "multi": {"joint": 4},
        "single": {"generate": 2, "predict_label": 2},
    }
    folders = {path.name for path in (tmp_path / "w").iterdir() if path.is_dir()}
    assert folders == {
        "multi-joint-4-seed0",
        "single-generate-2-seed0",
        "single-predict_label-2-seed0",
    }
    sheets = {path.name for path in (tmp_path / "w" / "multi-joint-4-seed0").glob("*.png")}
    assert sheets == {"joint.png", "given_image.png", "given_label.png"}

    # Files that have moved are the same data.
    for split in ("train", "test"):
        (tmp_path / f"{split}.npz").rename(tmp_path / f"{split}-moved.npz")

    # No likelihoods, which no table of arms shows.
    figures = json.loads((tmp_path / "w/multi-joint-4-seed0/figures.json").read_text())["figures"]
    assert "joint/frechet" in figures
    assert not [name for name in figures if name.startswith(("bound/", "flow/", "bits_per_dim"))]

    # The same call finds all done: nothing is trained or evaluated again, nor are the features,
    # which another machine would fit a little differently, nor judges; and it writes once.
    files = [*(tmp_path / "w").rglob("figures.json"), tmp_path / "w" / "features.safetensors"]
    before = {path: path.stat().st_mtime_ns for path in files}
    assert len(before) == 4
    drawn = []
    with monkeypatch.context() as patch:
        plot = baselines.plot_arms
        patch.setattr(baselines, "plot_arms", lambda *of: drawn.append(of) or plot(*of))
        for name in ("sham_test", "labels_by_svm"):
            patch.delattr(evaluation, name)
        assert compare() == table
    assert len(drawn) == 1
    assert {path: path.stat().st_mtime_ns for path in before} == before
    again = json.loads((tmp_path / "w" / "comparison.json").read_text())
    assert again["runs"] == results["runs"]
    assert again["costs"] == results["costs"]
    assert measured == [["multi/joint", "single/generate", "single/predict_label"]]

    # Other sampling is evaluated anew, with the same parameters.
    states = []

    def look_at(built, *rest, likelihoods):
        states.append(built.sampling.num_steps)
        return [evaluation.Figure("joint/frechet", 1.0, 12)]

    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "evaluate", look_at)
        compare(num_steps=3)
    assert states == [3, 3, 3]

    with pytest.raises(ValueError, match="features were fitted with another judge_steps, 2"):
        compare(judge_steps=3)


@pytest.mark.long
def test_runs_of_another_config_are_refused(tmp_path):
    """Modalities may be written as strings; sampling and evaluation may differ."""
    asked = config(tmp_path)
    asked.modalities = ConfigDict(
        {"image": "image(num_levels=17)", "label": "label(num_classes=10)"}
    )
    workdir, arms = str(tmp_path / "w"), ["predict"]
    apps.compare_arms(asked, workdir, arms, 1, 2, ["steps"])
    asked.evaluation.num_samples = 10
    apps.compare_arms(asked, workdir, arms, 1, 2, ["steps"])
    asked.backbone.depth = 2
    with pytest.raises(
        ValueError, match=r"predict_label-2-seed0, which .* differs in backbone\.dep"
    ):
        apps.compare_arms(asked, workdir, arms, 1, 2, ["steps"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"arms": ["mult"]}, "`arms`: got 'mult'"),
        ({"num_seeds": 0}, "`seeds`: got 0"),
        ({"budgets": ["hours"]}, "`budgets`: got 'hours'"),
        ({"budgets": ["steps", "steps"]}, "`budgets`: got 'steps' twice, expected each once"),
        ({"budgets": []}, "`budgets`: got none, expected one or more"),
        ({"arms": ["multi", "multi"]}, "`arms`: got 'multi' twice"),
        ({"arms": []}, "`arms`: got none"),
    ],
)
def test_bad_requests_leave_nothing_behind(tmp_path, options, words):
    request = {"arms": ["multi"], "num_seeds": 1, "steps": 2, **options}
    with pytest.raises(ValueError, match=words):
        apps.compare_arms(config(tmp_path), str(tmp_path / "w"), **request)
    assert not (tmp_path / "w").exists()


def test_a_sheet_that_fails_is_a_warning(tmp_path, caplog):
    image = modalities.Image(latent=(8, 8, 1), is_primary=True)
    model = types.SimpleNamespace(modalities={"image": image})
    _draw(model, {"unknown": np.zeros((2, 8, 8, 1), np.uint8)}, tmp_path / "bad.png")
    assert f"The picture {tmp_path / 'bad.png'} is left out: 'unknown'" in caplog.text
    assert not (tmp_path / "bad.png").exists()
    _draw(model, {"image": np.zeros((2, 8, 8, 1), np.uint8)}, tmp_path / "good.png")
    with Image.open(tmp_path / "good.png") as sheet:
        assert sheet.size[0] > 90
