"""Figures of samples of all modalities, where the samples are real examples, shuffled, or noise."""

import types

import numpy as np
import pytest

from mmdiffusion_jax import data
from mmdiffusion_jax.evaluation import RealData, values_of
from mmdiffusion_jax.evaluation import joint_figures as joint_figures_of
from mmdiffusion_jax.modalities import Label
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


@pytest.mark.parametrize("is_sorted", [True, False])
def test_test_data_that_are_sorted_by_class_are_a_warning(digits, is_sorted, caplog):
    columns, modalities = digits
    order = np.argsort(columns["label"][400:], kind="stable") if is_sorted else np.arange(200)
    columns = {name: np.concatenate([x[:400], x[400:][order]]) for name, x in columns.items()}
    real_data(columns, modalities, num_samples=60).check()
    assert ("shuffle the test data" in caplog.text) == is_sorted


def test_no_image_to_judge():
    experiment = types.SimpleNamespace(
        model=types.SimpleNamespace(
            primary="label", modalities={"label": Label(latent=LATENT, num_classes=2)}
        )
    )
    source = data.ArraySource({"label": np.arange(2)})
    with pytest.raises(ValueError, match="'label', which is no image"):
        RealData(experiment, source, source)
