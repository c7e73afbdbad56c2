"""Generated pairs as training data, on the finished run of the launch scripts' tests."""

import json
import shutil
import sys

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from mmdiffusion_jax import apps, baselines, experiment
from mmdiffusion_jax.experiment import contents
from tests.apps.small import launch

MODULE = sys.modules[apps.judge_by_use.__module__]


def judge(workdir, out, **options):
    request = {"num_pairs": 12, "steps": 2, "num_seeds": 2, "num_steps": 2, **options}
    return apps.judge_by_use(str(workdir), out=str(out), **request)


def pairs_of(file):
    with np.load(file) as columns:
        assert set(columns) == {"image", "label"}
        return list(zip(map(np.ndarray.tobytes, columns["image"]), columns["label"].tolist()))


@pytest.mark.long
def test_predictors_of_generated_and_of_real_pairs(finished, tmp_path, capsys, monkeypatch):
    table = judge(finished, tmp_path)
    assert table in capsys.readouterr().out
    assert "| figure | generated (12) | real (12) | both (24) |" in table
    assert "2 steps on so many pairs, on 360 real test examples, 2 seeds" in table
    runs = json.loads((tmp_path / "judged_by_use.json").read_text())
    assert len(runs) == 6
    assert {run["seed"] for run in runs} == {0, 1}

    # One predictor by hand: it was trained on the generated pairs alone.
    place = tmp_path / "label-generated-12-2-seed1"
    with np.load(tmp_path / "pairs-12-seed1" / "samples-00000-of-00001.npz") as samples:
        images, labels = (samples[name] for name in ("image", "label"))
    generated = pairs_of(f"{place}.npz")
    assert generated == list(
        zip((x.astype(np.uint8).tobytes() for x in images), labels.tolist(), strict=True)
    )
    train, test = experiment.open_data(experiment.read_config(finished))
    every = train.take(np.arange(len(train)))
    known = set(zip(map(np.ndarray.tobytes, every["image"]), every["label"].tolist()))
    drawn = [pairs_of(tmp_path / f"label-real-12-2-seed{seed}.npz") for seed in (0, 1)]
    assert all(set(pairs) <= known for pairs in drawn)
    assert drawn[0] != drawn[1]
    assert pairs_of(tmp_path / "label-both-12-2-seed1.npz") == drawn[1] + generated
    config, built, params = apps.load(str(place))
    assert (config.seed, *config.predict.given, config.predict.target) == (1, "image", "label")
    held_out = test.take(np.arange(len(test)))
    predicted = built.generate(jax.random.key(0), params, len(test), {"image": held_out["image"]})[
        "label"
    ]
    (run,) = [x for x in runs if x["arm"] == "generated (12)" and x["seed"] == 1]
    assert run["figures"] == {"label_given_image/accuracy": np.mean(predicted == held_out["label"])}

    # The same call again trains nothing; a file that is lost is made again.
    (tmp_path / "judged_by_use.md").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(MODULE, "train_to_the_end", None)
        assert judge(finished, tmp_path) == table
    assert (tmp_path / "judged_by_use.md").read_text() == table + "\n"

    # Other pairs, as of another sampler, do not mix with these.
    with pytest.raises(ValueError, match=r"`out`: got .*pairs-12-seed0, which has something else"):
        judge(finished, tmp_path, num_steps=3)


def test_more_pairs_than_there_are_real_ones_and_what_training_lacks(finished, tmp_path):
    """Real pairs are those that the model was trained on: five labels were kept for it."""
    (tmp_path / "w").mkdir()
    for path in finished.iterdir():
        if path.name not in ("config.json", contents.FILE):
            (tmp_path / "w" / path.name).symlink_to(path)
    values = experiment.read_config(finished).to_dict()
    values["data"]["kept"] = {"label": 5}
    (tmp_path / "w" / "config.json").write_text(json.dumps(values))
    table = judge(tmp_path / "w", tmp_path / "out", num_pairs=9, num_seeds=1)
    assert "| figure | generated (9) | real (5) | both (14) |" in table


def test_predictors_are_trained_on_all_of_their_pairs(finished, tmp_path, monkeypatch):
    """Also where the model of the pairs had held examples out of training."""
    workdir = tmp_path / "w"
    shutil.copytree(finished, workdir)
    values = json.loads((workdir / "config.json").read_text())
    values["data"]["held_out"] = 0.25
    values["training"]["best_metric"] = "loss"
    (workdir / "config.json").write_text(json.dumps(values))
    configs = []

    def look(config, folder):
        configs.append(config)
        raise KeyboardInterrupt

    monkeypatch.setattr(MODULE, "train_to_the_end", look)
    with pytest.raises(KeyboardInterrupt):
        judge(workdir, tmp_path / "out")
    splits = experiment.open_splits(configs[0])
    assert len(splits.train) == 12
    assert configs[0].training.best_metric == ""


def test_a_predictor_has_the_rest_of_the_config(finished):
    config = experiment.read_config(finished)
    config.modalities.mask = ConfigDict({"kind": "segmentation", "num_classes": 2})
    config.process.weights.mask = ConfigDict({"rule": "bump", "scale": 1.0})
    part = baselines.make_predictor(config, "label")
    experiment.build(part)
    assert set(part.modalities) == {"image", "label"}
    assert (part.backbone, part.training) == (config.backbone, config.training)
    with pytest.raises(ValueError, match=r"`target`: got 'image', expected .*'label'"):
        baselines.make_predictor(config, "image")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_pairs": 0}, "`num_pairs`: got 0, expected 1 or more"),
        ({"num_seeds": 0}, "`seeds`: got 0"),
        ({"steps": -1}, "`steps`: got -1"),
        ({"target": "labl"}, "`target`: got 'labl'.*did you mean 'label'"),
        ({"target": "image"}, "`target`: got 'image', expected .*'label'"),
        ({"order": ("image",)}, r"`order`: got \('image',\), expected stages with \['label'\] too"),
        ({"sampler": "dpm_solver"}, "did you mean 'dpm_solver_pp'"),
    ],
)
def test_bad_requests_leave_nothing_behind(finished, tmp_path, options, words):
    with pytest.raises(ValueError, match=words):
        judge(finished, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_predictors_are_not_trained_in_a_bucket(finished):
    with pytest.raises(ValueError, match=r"`out`: got 'gs://runs/a', expected a path of a mounted"):
        apps.judge_by_use(str(finished), out="gs://runs/a")


@pytest.mark.parametrize(
    ("others", "predicts", "words"),
    [
        (["audio"], False, r"whose model has \['audio'\] beside 'image', expected a modality that"),
        (["label", "mask"], False, r"`target`: got nothing, expected one of \['label', 'mask'\]"),
        (["label"], True, "whose model predicts and generates no pairs, expected a joint model"),
    ],
)
def test_models_without_such_pairs(finished, others, predicts, words):
    kinds = {
        "audio": {"kind": "audio", "frames": 8, "mels": 8},
        "label": {"kind": "label", "num_classes": 10},
        "mask": {"kind": "segmentation", "num_classes": 2},
    }
    config = experiment.read_config(finished)
    config.modalities = ConfigDict(
        {"image": config.modalities.image, **{name: kinds[name] for name in others}}
    )
    config.process.weights = ConfigDict({name: {"rule": "bump", "scale": 1.0} for name in others})
    config.loss.scales = config.loss.dropout = config.loss.tasks = ConfigDict()
    if predicts:
        config = baselines.make_predictor(config, *others)
    with pytest.raises(ValueError, match=words):
        MODULE._target_of("w", experiment.build(config), None)


def test_the_command(finished, tmp_path):
    flags = ["--num_pairs=5", "--steps=1", "--seeds=1", "--num_steps=2"]
    done = launch("judge_by_use", f"--workdir={finished}", f"--out={tmp_path}", *flags)
    assert done.returncode == 0, done.stderr
    assert "| label_given_image/accuracy ↑ |" in done.stdout
