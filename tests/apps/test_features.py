"""The launch script that fits a feature network."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from mmdiffusion_jax import apps, metrics


@pytest.fixture
def files(tmp_path):
    digits = load_digits()
    images = np.round(digits.images * 255 / 16).astype(np.uint8)
    np.savez(tmp_path / "train.npz", image=images[300:], label=digits.target[300:])
    np.savez(tmp_path / "test.npz", image=images[:300], label=digits.target[:300])
    np.savez(tmp_path / "large.npz", image=np.zeros((2, 9, 8), np.uint8), label=[0, 1])
    return tmp_path


def test_it_fits_and_says_how_well(files, capsys):
    out = files / "features.safetensors"
    held_out = str(files / "test.npz")
    images = apps.LabelledImages(str(files / "train.npz"), held_out)
    apps.fit_features(images, str(out), num_steps=100)
    said = dict(line.split()[:2] for line in capsys.readouterr().out.splitlines())
    network = metrics.SmallClassifier.load(out)
    assert said["identity"] == network.identity
    test = np.load(files / "test.npz")
    want = np.mean(network.predict(test["image"]) == test["label"])
    assert abs(float(said["accuracy"]) - want) < 1e-4
    assert want > 0.85


def test_absent_labels_are_neither_learned_nor_judged(files, capsys):
    """Half of the labels are absent, with a placeholder; the others are told as well as ever."""
    for split in ("train", "test"):
        with np.load(files / f"{split}.npz") as file:
            columns = dict(file)
        present = np.arange(len(columns["label"])) % 2 == 0
        label = np.where(present, columns["label"], 0)
        np.savez(files / f"half_{split}.npz", image=columns["image"], label=label,
                 label_present=present)  # fmt: skip
    out, held_out = str(files / "features.safetensors"), str(files / "half_test.npz")
    images = apps.LabelledImages(str(files / "half_train.npz"), held_out)
    apps.fit_features(images, out, num_steps=100)
    said = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    accuracy, count = said["accuracy"].split()
    assert float(accuracy) > 0.85
    assert count == "(150)"


def test_no_label_is_present(files):
    columns = {"image": np.zeros((4, 8, 8), np.uint8), "label": np.zeros(4, int)}
    np.savez(files / "none.npz", **columns, label_present=np.zeros(4, bool))
    with pytest.raises(ValueError, match=r"no example of .*none\.npz in which 'image' and 'label'"):
        apps.fit_features(
            apps.LabelledImages(str(files / "none.npz")), str(files / "features.safetensors")
        )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"path": "missing.npz"}, r"missing\.npz"),
        ({"test": "missing.npz"}, r"missing\.npz"),
        ({"size": (8, 8)}, r"`size`: got \(8, 8\), expected nothing beside an \.npz file"),
        ({"folder": "data"}, "`path`: got data, expected nothing beside an .npz file"),
        ({"test": "large.npz"}, r"`test`: got 'image' of shape \(n, \*\(9, 8\)\), expected"),
        ({"out": "features.npz"}, r"`out`: got '.*features\.npz', expected a file \*\.safe"),
        ({"out": "missing/features.safetensors"}, "folder that exists"),
        ({"label": "lable"}, "`label`: got 'lable', expected one of .*did you mean 'label'"),
        ({"image": "label"}, r"`images`: got shape \(1497,\)"),
        ({"seed": -1}, "`seed`: got -1, expected 0 … 4294967295"),
        ({"label": "image"}, r"`labels`: got uint8 of shape \(1497, 8, 8\)"),
    ],
)
def test_bad_files_end_before_anything_is_written(files, changes, words):
    arguments = {"path": "train.npz", "out": "features.safetensors", **changes}
    for name in {"path", "out", "test"} & set(arguments):
        arguments[name] = str(files / arguments[name])
    out, seed = arguments.pop("out"), arguments.pop("seed", 0)
    with pytest.raises(ValueError, match=words):
        apps.fit_features(apps.LabelledImages(**arguments), out, seed=seed)
    assert not list(files.glob("**/features*"))
