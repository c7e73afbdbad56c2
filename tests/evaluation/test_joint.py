"""Figures of samples of all modalities, where the samples are real examples, shuffled, or noise."""

import types

import numpy as np
import pytest

from mmdiffusion_jax import data, metrics
from mmdiffusion_jax.evaluation import RealData, values_of
from mmdiffusion_jax.evaluation import joint_figures as joint_figures_of
from mmdiffusion_jax.modalities import Image, Label
from tests.evaluation.conftest import LATENT, real_data


def joint_figures(*arguments):
    return values_of(joint_figures_of(*arguments))


def test_real_examples_as_samples_get_the_best_figures(real):
    samples = {name: real.test[name] for name in real.modalities}
    figures = joint_figures(real, samples)
    assert figures["joint/frechet"] == pytest.approx(0, abs=1e-6)
    assert figures["joint/precision"] == figures["joint/recall"] == 1
    assert figures["joint/image_label/agreement"] > 0.85
    assert figures["joint/audio_label/agreement"] > 0.85
    assert figures["joint/image_embedding/cosine"] == pytest.approx(1, abs=1e-5)
    assert figures["joint/image_embedding/cosine_of_strangers"] < 0.9


def test_shuffled_partners_lose_the_agreement_alone(real):
    samples = {name: real.test[name] for name in ("image", "label")}
    good = joint_figures(real, samples)
    bad = joint_figures(real, {**samples, "label": np.roll(samples["label"], 100)})
    assert bad["joint/frechet"] == good["joint/frechet"]
    assert bad["joint/image_label/agreement"] < 0.3


def test_noise_is_far_from_the_data(real):
    noise = np.random.default_rng(1).integers(0, 256, real.test["image"].shape, np.uint8)
    figures = joint_figures(real, {"image": noise})
    assert figures["joint/frechet_ratio"] > 5
    assert figures["joint/precision"] < 0.2


@pytest.mark.parametrize("count", [40, 120, 400])
def test_the_ratio_of_real_images_is_one_however_few_they_are(count):
    """Both splits are drawn from one Gaussian; the distance itself falls with the number."""
    pixels = np.random.default_rng(0).normal(128, 20, (2000, 4, 4, 1)).round().astype(np.uint8)
    modalities = {"image": Image(latent=(4, 4, 1), is_primary=True)}
    judges = real_data({"image": pixels}, modalities, num_train=1600)
    fresh = np.random.default_rng(1).normal(128, 20, (10, count, 4, 4, 1)).round()
    features = [judges.features(images) for images in fresh.astype(np.uint8)]
    ratios = [judges.frechet_ratio(each) for each in features]
    assert np.mean(ratios) == pytest.approx(1, abs=0.25)
    apart = [
        metrics.frechet_distance(each, judges.features(judges.test["image"])) for each in features
    ]
    whole = metrics.frechet_distance(*map(judges.features, (pixels[:1600], pixels[1600:])))
    assert np.mean(apart) / whole > (1.5 if count < 400 else 1)


def test_more_samples_than_training_images_are_cut_to_these():
    pixels = np.random.default_rng(0).normal(128, 20, (90, 4, 4, 1)).round().astype(np.uint8)
    modalities = {"image": Image(latent=(4, 4, 1), is_primary=True)}
    judges = real_data({"image": pixels}, modalities, num_train=60)
    many = judges.features(np.random.default_rng(1).integers(0, 256, (500, 4, 4, 1), np.uint8))
    assert judges.frechet_ratio(many) == judges.frechet_ratio(many[:60])
    with pytest.raises(ValueError, match="`count`: got 61, expected 1 … 60 training images"):
        judges.floor(61)


@pytest.mark.parametrize("is_sorted", [True, False])
def test_test_data_that_are_sorted_by_class_are_a_warning(digits, is_sorted, caplog):
    columns, modalities = digits
    order = np.argsort(columns["label"][400:], kind="stable") if is_sorted else np.arange(200)
    columns = {name: np.concatenate([x[:400], x[400:][order]]) for name, x in columns.items()}
    real_data(columns, modalities, num_samples=60).check()
    assert ("shuffle the test data" in caplog.text) == is_sorted


def test_features_that_made_the_embeddings_are_a_warning(real, digits, caplog):
    real.check()
    assert "The embeddings and the features of the evaluation are of one network" in caplog.text
    caplog.clear()
    real_data(*digits).check()
    assert "one network" not in caplog.text


def test_no_image_to_judge():
    experiment = types.SimpleNamespace(
        model=types.SimpleNamespace(
            primary="label", modalities={"label": Label(latent=LATENT, num_classes=2)}
        )
    )
    source = data.ArraySource({"label": np.arange(2)})
    with pytest.raises(ValueError, match="'label', which is no image"):
        RealData(experiment, source, source)
