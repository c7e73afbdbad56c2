"""Figures of what is generated from one modality, where what it should be is known."""

import types

import numpy as np
import pytest
from sklearn.metrics import jaccard_score

from mmdiffusion_jax import metrics
from mmdiffusion_jax.evaluation import conditional_figures as conditional_figures_of
from mmdiffusion_jax.evaluation import evaluate, values_of
from mmdiffusion_jax.experiment import EvaluationOptions, SamplingOptions
from tests.evaluation.conftest import real_data


def conditional_figures(*arguments):
    return values_of(conditional_figures_of(*arguments))


def test_directions(real):
    truth = real.test
    figures = conditional_figures(real, "label", {n: truth[n] for n in ("image", "audio")}, truth)
    assert set(figures) == {"image_given_label/agreement", "audio_given_label/agreement"}
    assert min(figures.values()) > 0.85
    wrong = np.where(np.arange(len(truth["label"])) < 100, truth["label"], -1)
    figures = conditional_figures(real, "image", {"label": wrong}, truth)
    assert figures == {"label_given_image/accuracy": pytest.approx(100 / len(wrong))}


def test_masks_against_sklearn(real):
    truth = real.test["mask"]
    predicted = truth.copy()
    predicted[:, :2] = 1
    figures = conditional_figures(real, "image", {"mask": predicted}, real.test)
    want = jaccard_score(truth.ravel(), predicted.ravel(), average="macro")
    assert figures["mask_given_image/iou"] == pytest.approx(want)
    assert figures["mask_given_image/pixel_accuracy"] == pytest.approx((truth == predicted).mean())


def test_the_distance_is_in_the_features_of_the_evaluation(digits, monkeypatch):
    pytest.importorskip("torch")  # reads the weights
    columns, modalities = digits
    small = metrics.EfficientNetFeatures.from_package(side=32)
    monkeypatch.setattr(metrics.EfficientNetFeatures, "from_package", lambda: small)
    real = real_data(columns, modalities, features="efficientnet")
    assert real.features_name == small.identity
    truth = {name: columns[name][400:420] for name in ("image", "masked_image")}
    darker = truth["image"] // 2
    figures = conditional_figures(real, "masked_image", {"image": darker}, truth)
    want = metrics.perceptual_distance(small, truth["image"], darker).mean()
    assert figures["image_given_masked_image/distance"] == pytest.approx(want, rel=1e-5)
    assert want > 0.01


def test_restored_images(real):
    truth = real.test
    whole = truth["image"]
    grey = whole // 2 + 30
    figures = {}
    for name, x in (("whole", whole), ("grey", grey)):
        figures[name] = conditional_figures(real, "masked_image", {"image": x}, truth)
    assert figures["whole"]["image_given_masked_image/distance"] == pytest.approx(0, abs=1e-6)
    error = np.mean((whole.astype(float) - grey) ** 2, axis=(1, 2, 3))
    want = np.mean(10 * np.log10(255**2 / error))
    assert figures["grey"]["image_given_masked_image/psnr"] == pytest.approx(want, rel=1e-4)
    assert figures["grey"]["image_given_masked_image/distance"] > 0.01


def test_a_restored_image_is_looked_at_whole(real):
    whole = real.test["image"]
    stub = types.SimpleNamespace(
        formulation=types.SimpleNamespace(has_bound=False, predicts_from=("masked_image",)),
        model=types.SimpleNamespace(modalities=real.modalities),
        evaluation=EvaluationOptions(num_samples=20),
        generate=lambda key, params, count, given: {**given, "image": whole[:count]},
    )
    looks = {}
    figures = values_of(evaluate(stub, None, None, None, real, looks.__setitem__))
    assert set(looks) == {"given_masked_image"}
    shown = looks["given_masked_image"]
    assert list(shown) == ["masked_image", "image"]
    np.testing.assert_array_equal(shown["image"], whole[:20])
    np.testing.assert_array_equal(shown["masked_image"], real.test["masked_image"][:20])
    for figure in ("psnr", "distance"):
        names = (f"image_given_masked_image/{way}{figure}" for way in ("", "one_call/"))
        assert len({figures[name] for name in names}) == 1
    assert figures["image_given_masked_image/distance"] == pytest.approx(0, abs=1e-6)


def test_a_predictor_from_two_modalities_is_left_out_with_a_reason(real):
    stub = types.SimpleNamespace(
        formulation=types.SimpleNamespace(has_bound=False, predicts_from=("image", "audio")),
        settings=types.SimpleNamespace(predict=types.SimpleNamespace(target="label")),
        model=types.SimpleNamespace(modalities=real.modalities),
        evaluation=EvaluationOptions(num_samples=20),
    )
    reasons = {x.name: x.reason for x in evaluate(stub, None, None, None, real) if x.reason}
    assert reasons["label_given_image_audio"] == "evaluations give one modality at a time"


def test_what_is_restored_is_also_restored_by_one_call(real):
    """Where the network is shown the part, beside the draw in as many states as the config says."""
    whole = real.test["image"]

    def generator(options):
        noisy = whole // 2 if options.num_steps == 1 else whole // 2 + 90
        return lambda key, params, count, given=None: {"image": noisy[:count]}

    options = SamplingOptions(num_steps=20)
    stub = types.SimpleNamespace(
        formulation=types.SimpleNamespace(predicts_from=()),
        model=types.SimpleNamespace(modalities=real.modalities, shows=("masked_image",)),
        evaluation=EvaluationOptions(num_samples=20, num_scored=0),
        sampling=options,
        generator=generator,
        generate=generator(options),
    )
    looks = {}
    figures = values_of(evaluate(stub, None, None, None, real, looks.__setitem__))
    once = {title for title in looks if title.endswith("one_call")}
    assert once == {"given_masked_image_one_call"}
    draw, mean = (figures[f"image_given_masked_image/{way}psnr"] for way in ("", "one_call/"))
    assert draw < mean
