"""A slow network sees every real image once, and of many a part that is always the same."""

import numpy as np
import pytest

from mmdiffusion_jax import metrics
from mmdiffusion_jax.evaluation import joint_figures, judge_figures, real, sham_test, values_of
from tests.evaluation.conftest import real_data

MOST = 150


class Counting:
    """Features that are rows of pixels, and how many images they were asked for."""

    identity = "counting"

    def __init__(self):
        self.calls = []

    def features(self, images):
        self.calls.append(len(images))
        return images.reshape(len(images), -1) / 255.0


@pytest.fixture
def network(monkeypatch):
    network = Counting()
    monkeypatch.setattr(metrics.EfficientNetFeatures, "from_package", lambda: network)
    monkeypatch.setattr(real, "_MOST", MOST)
    return network


def of(digits, num_train, **changes):
    columns, modalities = digits
    few = {name: modalities[name] for name in ("image", "label")}
    columns = {**{name: columns[name] for name in few}, **changes}
    return real_data(columns, few, num_train, features="efficientnet"), columns


def first(x):
    return x[np.random.default_rng(0).permutation(len(x))[:MOST]]


@pytest.mark.parametrize("num_train", [300, 500])
def test_figures_are_those_of_the_part(digits, network, num_train):
    """Of 300 test images 150 count, and of 100 all, in their own order."""
    judges, columns = of(digits, num_train)
    pixels = columns["image"].reshape(len(columns["image"]), -1) / 255.0
    cut = first if num_train == 300 else lambda x: x
    train, test = first(pixels[:num_train]), cut(pixels[num_train:])
    labels = first(columns["label"][:num_train]), cut(columns["label"][num_train:])
    assert judges.most_for_floor == len(train) == MOST
    assert judges.floor(MOST) == pytest.approx(metrics.frechet_distance(train, test))
    vectors = metrics.fit_judge(train, labels[0], lambda x: x)
    (accuracy,) = judge_figures(judges)
    assert accuracy.value == metrics.agreement(vectors.predict(test), labels[1])
    assert accuracy.num_examples == len(test) == min(MOST, 600 - num_train)
    samples = pixels[20:320]
    counted = samples[:MOST] if num_train == 300 else samples
    want = metrics.precision_recall(test[: len(counted)], counted)
    assert judges.precision_recall(samples) == want
    few = metrics.precision_recall(test[:40], samples[:40])
    assert judges.precision_recall(samples[:40]) == few
    drawn = {"image": columns["image"][20:320], "label": columns["label"][20:320]}
    figures = {x.name: x for x in joint_figures(judges, drawn)}
    assert figures["joint/precision"].value == want[0]
    assert figures["joint/precision"].num_examples == len(counted)
    assert figures["joint/frechet"].num_examples == 300


def test_every_real_image_is_seen_once(digits, network):
    judges, columns = of(digits, 300)
    sham_test(judges)
    assert judges.floor(100) > 0
    # The two splits; real images and four shams, as many as test images; and images of one class.
    assert network.calls.count(MOST) == 2
    assert network.calls.count(300) == 5
    assert len(network.calls) == 8
    judges.predict("label", "image", columns["image"][:7])
    assert network.calls[-1] == 7


def test_images_without_a_label_are_no_examples_of_the_judge(digits, network):
    present = np.arange(600) % 3 > 0
    judges, columns = of(digits, 300, label_present=present)
    images, labels = (columns[name][:300][present[:300]] for name in ("image", "label"))
    vectors = metrics.fit_judge(*map(first, (images, labels)), network.features)
    held_out = [columns[name][300:][present[300:]] for name in ("image", "label")]
    images, labels = map(first, held_out)
    want = metrics.agreement(vectors.predict(images), labels)
    assert values_of(judge_figures(judges)) == {"judge/image_label/accuracy": want}
