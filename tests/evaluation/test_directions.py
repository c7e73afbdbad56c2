"""Figures of samples, where the samples are real examples and what they should be is known."""

import types

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.metrics import jaccard_score

from mmdiffusion_jax import data, metrics
from mmdiffusion_jax.evaluation import (
    RealData,
    evaluate,
    values_of,
)
from mmdiffusion_jax.evaluation import conditional_figures as conditional_figures_of
from mmdiffusion_jax.evaluation import joint_figures as joint_figures_of
from mmdiffusion_jax.experiment import EvaluationOptions
from mmdiffusion_jax.modalities import Audio, Embedding, Image, Label, MaskedImage, Segmentation

LATENT = (8, 8, 1)
CLEAR = types.MappingProxyType({"is_primary": True})


def joint_figures(*arguments):
    return values_of(joint_figures_of(*arguments))


def conditional_figures(*arguments):
    return values_of(conditional_figures_of(*arguments))


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """Digits, their labels, and made from these: masks, masked images, audio and embeddings."""
    digits = load_digits()
    images = np.round(digits.images * 255 / 16).astype(np.uint8)[..., None]
    rng = np.random.default_rng(0)
    masked = MaskedImage(latent=LATENT, num_squares=1, square_size=3)
    network = metrics.fit_classifier(images[:1200], digits.target[:1200], num_steps=150)
    file = tmp_path_factory.mktemp("network") / "network.safetensors"
    network.save(file)
    columns = {
        "image": images,
        "label": digits.target,
        "mask": (images[..., 0] > 100).astype(np.int32),
        "masked_image": masked.derive(rng, images),
        "audio": (images[..., 0] / 127.5 - 1).astype(np.float32),
        "embedding": network.features(images),
    }
    modalities = {
        "image": Image(latent=LATENT, **CLEAR),
        "label": Label(latent=LATENT, num_classes=10),
        "mask": Segmentation(latent=LATENT, num_classes=2),
        "masked_image": masked,
        "audio": Audio(latent=LATENT, frames=8, mels=8),
        "embedding": Embedding(latent=LATENT, dims=128, head_kind="cosine"),
    }
    experiment = types.SimpleNamespace(
        model=types.SimpleNamespace(primary="image", modalities=modalities),
        evaluation=EvaluationOptions(features=str(file), judge_steps=150),
        config=types.SimpleNamespace(data=types.SimpleNamespace(embedder=str(file))),
    )
    train, test = (
        data.ArraySource({name: x[rows] for name, x in columns.items()})
        for rows in (slice(1200), slice(1200, None))
    )
    return RealData(experiment, train, test)


def test_real_examples_as_samples_get_the_best_figures(real):
    made = {name: real.test[name] for name in real.modalities}
    figures = joint_figures(real, made)
    assert figures["joint/frechet"] == pytest.approx(0, abs=1e-6)
    assert figures["joint/precision"] == figures["joint/recall"] == 1
    assert figures["joint/image_label/agreement"] > 0.85
    assert figures["joint/audio_label/agreement"] > 0.85
    assert figures["joint/image_embedding/cosine"] == pytest.approx(1, abs=1e-5)
    assert figures["joint/image_embedding/cosine_of_strangers"] < 0.9


def test_shuffled_partners_lose_the_agreement_alone(real):
    made = {name: real.test[name] for name in ("image", "label")}
    good = joint_figures(real, made)
    bad = joint_figures(real, {**made, "label": np.roll(made["label"], 100)})
    assert bad["joint/frechet"] == good["joint/frechet"]
    assert bad["joint/image_label/agreement"] < 0.3


def test_noise_is_far_from_the_data(real):
    noise = np.random.default_rng(1).integers(0, 256, real.test["image"].shape, np.uint8)
    figures = joint_figures(real, {"image": noise})
    assert figures["joint/frechet_ratio"] > 5
    assert figures["joint/precision"] < 0.2


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
    made = truth.copy()
    made[:, :2] = 1
    figures = conditional_figures(real, "image", {"mask": made}, real.test)
    want = jaccard_score(truth.ravel(), made.ravel(), average="macro")
    assert figures["mask_given_image/iou"] == pytest.approx(want)
    assert figures["mask_given_image/pixel_accuracy"] == pytest.approx((truth == made).mean())


def test_restored_images(real):
    truth = real.test
    whole = truth["image"]
    grey = whole // 2 + 30
    found = {}
    for name, x in (("whole", whole), ("grey", grey)):
        found[name] = conditional_figures(real, "masked_image", {"image": x}, truth)
    assert found["whole"]["image_given_masked_image/distance"] == pytest.approx(0, abs=1e-6)
    error = np.mean((whole.astype(float) - grey) ** 2, axis=(1, 2, 3))
    want = np.mean(10 * np.log10(255**2 / error))
    assert found["grey"]["image_given_masked_image/psnr"] == pytest.approx(want, rel=1e-4)
    assert found["grey"]["image_given_masked_image/distance"] > 0.01


def test_a_restored_image_is_looked_at_whole(real):
    whole = real.test["image"]
    stub = types.SimpleNamespace(
        has_bound=False,
        predicts_from=("masked_image",),
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
    assert figures["image_given_masked_image/distance"] == pytest.approx(0, abs=1e-6)


def test_no_image_to_judge():
    experiment = types.SimpleNamespace(
        model=types.SimpleNamespace(
            primary="label", modalities={"label": Label(latent=LATENT, num_classes=2)}
        )
    )
    source = data.ArraySource({"label": np.arange(2)})
    with pytest.raises(ValueError, match="'label', which is no image"):
        RealData(experiment, source, source)
