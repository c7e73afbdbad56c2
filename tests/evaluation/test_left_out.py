"""Data of which some figures have no value: the others are there, and each of these says why."""

import dataclasses
import types

import numpy as np
import pytest

from mmdiffusion_jax import data, metrics
from mmdiffusion_jax.evaluation import (
    conditional_figures,
    evaluate,
    joint_figures,
    sham_test,
    values_of,
)
from mmdiffusion_jax.modalities import Tokens
from tests.evaluation.conftest import real_data


def reasons_of(figures):
    return {figure.name: figure.reason for figure in figures if figure.value is None}


def test_a_test_split_that_is_the_training_split(digits):
    columns, modalities = digits
    both = {name: np.concatenate([x[:400], x[:400]]) for name, x in columns.items()}
    real = real_data(both, modalities)
    figures = list(joint_figures(real, {"image": columns["image"][400:]}))
    assert set(reasons_of(figures)) == {"joint/frechet_ratio"}
    assert "the images of the training data" in reasons_of(figures)["joint/frechet_ratio"]
    assert set(values_of(figures)) == {"joint/frechet", "joint/precision", "joint/recall"}


@pytest.mark.long
def test_one_test_example(built, digits):
    """Sets of one cannot be compared; likelihoods, labels and judges have one example to count."""
    experiment, params = built
    columns = {name: digits[0][name] for name in ("image", "label")}
    train = data.ArraySource({name: x[:400] for name, x in columns.items()})
    test = data.ArraySource({name: x[400:401] for name, x in columns.items()})
    figures = list(evaluate(experiment, params, train, test))
    assert set(reasons_of(figures)) == {
        f"joint/{name}" for name in ("frechet", "frechet_ratio", "precision", "recall")
    }
    counts = {figure.name: figure.num_examples for figure in figures if figure.value is not None}
    for name in ("bits_per_dim", "label_by_scoring/accuracy", "label_given_image/accuracy"):
        assert counts[name] == 1
    assert counts["judge/image_label/accuracy"] == 1


def test_a_classifier_without_classes(digits):
    """Only what its features are for is left out."""
    columns, modalities = digits
    names = ["image", "audio"]
    real = real_data(
        {name: columns[name] for name in names},
        {name: modalities[name] for name in names},
        features="classifier",
    )
    real.check()
    shams = sham_test(real)
    assert (shams.features, shams.figures) == ("none", {})
    figures = list(joint_figures(real, {"image": columns["image"][400:]}))
    assert values_of(figures) == {}
    assert "with neither labels nor masks" in reasons_of(figures)["joint/frechet"]


def test_modalities_without_a_figure(digits):
    """Nothing to measure, nothing true to compare with, no labels to read, no network."""
    columns, modalities = digits
    tokens = Tokens(latent=(8, 8, 1), num_classes=10, length=2)
    columns = {**columns, "tokens": np.stack([columns["label"]] * 2, axis=1)}
    real = real_data(columns, {**modalities, "tokens": tokens})
    samples = {name: columns[name][400:] for name in ("mask", "audio", "tokens")}
    label = {"label": columns["label"][400:]}
    figures = list(conditional_figures(real, "label", samples, label))
    assert [figure.name for figure in figures] == [
        "mask_given_label", "audio_given_label/agreement", "tokens_given_label"
    ]  # fmt: skip
    reasons = reasons_of(figures)
    assert "what 'mask' should be is not known" in reasons["mask_given_label"]
    assert reasons["tokens_given_label"] == "the modality Tokens has no figures"
    no_label = {name: modalities[name] for name in ("image", "audio", "masked_image")}
    real = real_data({name: columns[name] for name in no_label}, no_label)
    samples = {name: columns[name][400:] for name in ("image", "audio")}
    reasons = reasons_of(conditional_figures(real, "masked_image", samples, real.test))
    assert reasons["audio_given_masked_image"] == "the examples have no label to read off it"
    assert reasons["image_given_masked_image/lpips"] == "no weights are named in evaluation.lpips"
    assert "image_given_masked_image/distance" in reasons


def test_a_primary_that_is_no_image(built):
    experiment, params = built
    model = experiment.model.clone(primary="label")
    unscored = dataclasses.replace(experiment.evaluation, num_scored=0)
    settings = dataclasses.replace(experiment.settings, evaluation=unscored)
    experiment = dataclasses.replace(experiment, model=model, settings=settings)
    reasons = reasons_of(evaluate(experiment, params, None, None))
    assert reasons == {"samples": "the primary modality 'label' is no image"}


@pytest.mark.parametrize("option", ["features", "lpips", "embedder"])
def test_files_are_tried_before_anything_is_computed(digits, tmp_path, option):
    """A network of other images, or a file that is not there, is found out first."""
    columns, modalities = digits
    file = tmp_path / "network.safetensors"
    metrics.fit_classifier(np.zeros((4, 9, 9), np.uint8), np.array([0, 1, 0, 1]), num_steps=1).save(
        file
    )
    real = real_data(columns, modalities)
    real._kind = str(file) if option == "features" else real._kind
    real._embedder = str(file) if option == "embedder" else ""
    real._lpips_files = ("alex", "missing.pth", "missing.pth") if option == "lpips" else ()
    with pytest.raises(ValueError, match=rf"`config\.(evaluation|data)\.{option}`: got"):
        next(evaluate(types.SimpleNamespace(), None, None, None, real))


def test_a_judge_without_classes_to_tell(digits):
    columns, modalities = digits
    real = real_data({**columns, "label": np.zeros(600, int)}, modalities)
    samples = {name: columns[name][400:] for name in ("image", "label")}
    figures = list(joint_figures(real, samples))
    assert "1 classes" in reasons_of(figures)["joint/image_label/agreement"]
    assert values_of(figures)["joint/frechet"] >= 0


def test_a_figure_is_a_value_or_a_reason():
    from mmdiffusion_jax.evaluation import Figure

    for wrong in ({"value": None}, {"value": 1.0, "reason": "none"}):
        with pytest.raises(ValueError, match="`reason`: got"):
            dataclasses.replace(Figure("a", 1.0), **wrong)
