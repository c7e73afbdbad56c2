"""Judges are tried on real images and on shams; those that are blind are named."""

import numpy as np
import pytest

from mmdiffusion_jax.evaluation import RealData, ShamTest, sham_test, shams
from tests.evaluation.conftest import real_data

IMAGES = np.random.default_rng(0).uniform(0, 255, (40, 16, 16, 3))


def of(name):
    return shams.SHAMS[name](np.random.default_rng(1), IMAGES)


def test_what_they_are():
    assert of("blurred").shape == IMAGES.shape
    np.testing.assert_allclose(of("blurred").mean(), IMAGES.mean(), rtol=0.01)
    assert of("blurred").std() < 0.5 * IMAGES.std()
    assert (of("noisy") - IMAGES).std() == pytest.approx(25, rel=0.02)
    np.testing.assert_allclose(of("means")[3], (IMAGES[3] + IMAGES[2]) / 2)
    shuffled, pixels = (x.reshape(40, 256, 3) for x in (of("shuffled"), IMAGES))
    assert not np.array_equal(shuffled, pixels)
    for one, other in zip(shuffled, pixels):
        np.testing.assert_array_equal(*(x[x[:, 0].argsort()] for x in (one, other)))


def test_a_network_that_knows_the_data_tells_them_all(real):
    """Its worst is noise, which leaves a digit the digit that it is."""
    result = sham_test(real)
    ratios = {n: result.figures[f"sham/{n}/frechet_ratio"] for n in (*shams.SHAMS, "one_class")}
    assert min(ratios.values()) > 1
    assert min(ratios[name] for name in ("blurred", "shuffled", "means", "one_class")) > 2
    assert not [x for x in result.warnings if "Fréchet" in x]
    assert "| real images | 1.000 |" in result.report()


class Blind(RealData):
    """Its features are the mean brightness and its square."""

    features_name = "brightness"

    def features(self, images):
        mean = images.reshape(len(images), -1).mean(axis=1) / 255
        return np.stack([mean, mean**2], axis=1)


def test_a_blind_judge_is_named(digits, monkeypatch):
    monkeypatch.setattr("tests.evaluation.conftest.RealData", Blind)
    columns, modalities = digits
    result = sham_test(real_data(columns, modalities))
    assert result.figures["sham/shuffled/frechet_ratio"] == pytest.approx(1, abs=1e-6)
    named = [x for x in result.warnings if "in random order" in x]
    assert len(named) == 2
    assert all("by the features brightness" in x for x in named)
    assert result.report().startswith("Warning: by the features brightness, ")


def test_a_judge_of_labels_that_is_often_wrong():
    figures = {"judge/image_label/accuracy": 0.55, "judge/audio_label/accuracy": 0.9}
    (warning,) = ShamTest("pixels", figures).warnings
    assert warning.startswith("the judge image_label is right in 0.55 of real")


def test_without_images_there_is_no_table(digits):
    columns, modalities = digits
    absent = {**columns, "image_present": np.zeros(len(columns["image"]), bool)}
    result = sham_test(real_data(absent, modalities))
    assert not any(name.startswith("sham/") for name in result.figures)
    assert "|" not in result.report()


def test_a_test_split_of_training_images(digits):
    columns, modalities = digits
    twice = {name: np.concatenate([x[:100], x[:100]]) for name, x in columns.items()}
    result = sham_test(real_data(twice, modalities, num_train=100))
    assert not any(name.startswith("sham/") for name in result.figures)
