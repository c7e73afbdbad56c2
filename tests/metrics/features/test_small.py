"""The small classifier: what it is made of, what it learns, what it keeps."""

import dataclasses
import os
from pathlib import Path

import jax
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from mmdiffusion_jax import metrics
from mmdiffusion_jax.metrics.features.small import HalvingConvolution


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    images = np.round(data.images * 255 / 16).astype(np.uint8)
    return train_test_split(
        images, data.target, test_size=0.2, stratify=data.target, random_state=0
    )


@pytest.fixture(scope="module")
def fitted(digits):
    train, _, labels, _ = digits
    return metrics.fit_classifier(train, labels, num_steps=300, num_features=32)


@pytest.mark.parametrize("sides", [(6, 6), (7, 8)])
def test_patches_are_a_strided_convolution(sides):
    x = jax.random.normal(jax.random.key(0), (2, *sides, 3))
    got, variables = jax.jit(HalvingConvolution(4).init_with_output)(jax.random.key(1), x)
    kernel = variables["params"]["Dense_0"]["kernel"].reshape(3, 3, 3, 4)
    want = jax.lax.conv_general_dilated(
        x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_it_reads_real_digits(digits, fitted):
    _, test, _, truth = digits
    assert metrics.agreement(fitted.predict(test), truth) > 0.96
    probabilities = fitted.probabilities(test)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(probabilities.argmax(axis=1), fitted.predict(test))


def test_features_are_what_the_last_layer_reads(digits, fitted):
    test = digits[1][:7]
    last = fitted.params["Dense_1"]
    logits = fitted.features(test) @ last["kernel"] + last["bias"]
    np.testing.assert_allclose(jax.nn.softmax(logits), fitted.probabilities(test), rtol=1e-3)
    assert [each.shape for each in fitted.feature_maps(test)] == [(7, 4, 4, 32), (7, 2, 2, 64)]


def test_bytes_and_floats_with_or_without_channels_are_one(digits, fitted):
    test = digits[1][:5]
    floats = test[..., None] / 127.5 - 1
    np.testing.assert_allclose(fitted.features(test), fitted.features(floats), rtol=1e-4)


def test_what_was_saved_comes_back(digits, fitted, tmp_path):
    path = tmp_path / "features.safetensors"
    fitted.save(path)
    loaded = metrics.SmallClassifier.load(path)
    assert loaded.sizes == fitted.sizes
    assert loaded.identity == fitted.identity
    assert list(tmp_path.iterdir()) == [path]
    np.testing.assert_array_equal(loaded.features(digits[1]), fitted.features(digits[1]))


def test_the_identity_tells_weights_and_sizes_apart(fitted):
    changed = jax.tree.map(np.copy, fitted.params)
    changed["Dense_0"]["bias"][0] += 1e-3
    others = (
        metrics.SmallClassifier(fitted.sizes, changed),
        metrics.SmallClassifier(dataclasses.replace(fitted.sizes, multi_label=True), fitted.params),
    )
    assert len({fitted.identity, *(other.identity for other in others)}) == 3


def test_it_sees_which_labels_are_present():
    rng = np.random.default_rng(0)
    present = rng.integers(0, 2, (600, 3))
    images = rng.uniform(-1, -0.5, (600, 6, 9)).astype(np.float32)
    for i in range(3):
        images[:, :, 3 * i : 3 * i + 2] += present[:, i, None, None]
    fitted = metrics.fit_classifier(images[:500], present[:500], num_steps=100, num_features=16)
    assert fitted.sizes.multi_label
    assert metrics.agreement(fitted.predict(images[500:]), present[500:]) > 0.98
    probabilities = fitted.probabilities(images[500:])
    np.testing.assert_array_equal(probabilities > 0.5, fitted.predict(images[500:]) == 1)


def test_the_same_seed_gives_the_same_weights():
    images = np.random.default_rng(0).integers(0, 256, (20, 4, 4, 2)).astype(np.uint8)
    labels = np.arange(20) % 2

    def fit(seed):
        return metrics.fit_classifier(
            images, labels, seed=seed, num_steps=3, batch_size=8, num_features=4
        )

    assert fit(0).identity == fit(0).identity != fit(1).identity


@pytest.mark.parametrize(
    ("images", "labels", "options", "words"),
    [
        (np.zeros((4, 8), np.uint8), [0, 1, 0, 1], {}, r"`images`: got shape \(4, 8\)"),
        (np.zeros((0, 8, 8), np.uint8), [], {}, r"got shape \(0, 8, 8\)"),
        (np.zeros((4, 8, 8), np.int64), [0, 1, 0, 1], {}, "got int64 values in 0 … 0"),
        (np.full((4, 8, 8), 2.0), [0, 1, 0, 1], {}, "got float64 values in 2.0 … 2.0"),
        (
            np.full((4, 8, 8), 0.5),
            [0, 1, 0, 1],
            {},
            r"got floats in 0.5 … 0.5, .*np\.round\(images \* 255\)\.astype\(np\.uint8\)",
        ),
        (np.full((4, 8, 8), np.nan), [0, 1, 0, 1], {}, "got float64 values in nan … nan"),
        (np.zeros((4, 3, 8), np.uint8), [0, 1, 0, 1], {}, "got sides of 3 × 8"),
        (np.zeros((4, 8, 8), np.uint8), [0, 1, 0], {}, r"`labels`: got int64 of shape \(3,\)"),
        (np.zeros((4, 8, 8), np.uint8), [0, 0, 0, 0], {}, "two classes or more"),
        (np.zeros((4, 8, 8), np.uint8), [0, 1, 0, -1], {}, "class indices from 0 on"),
        (np.zeros((4, 8, 8), np.uint8), [0, 1.5, 0, 1], {}, "`labels`: got float64"),
        (np.zeros((2, 8, 8), np.uint8), [[0, 1], [2, 0]], {}, "of 0 and 1"),
        (np.zeros((4, 8, 8), np.uint8), [0, 1, 0, 1], {"num_steps": 0}, "`num_steps`: got 0"),
    ],
)
def test_bad_data(images, labels, options, words):
    with pytest.raises(ValueError, match=words):
        metrics.fit_classifier(images, np.array(labels), **options)


def test_images_of_another_shape_are_refused(fitted):
    with pytest.raises(ValueError, match=r"got shape \(1, 9, 8\), expected \(n, 8, 8, 1\)"):
        fitted.features(np.zeros((1, 9, 8), np.uint8))


def test_files_of_something_else_are_refused(tmp_path):
    from safetensors.numpy import save_file

    save_file({"x": np.zeros(2)}, tmp_path / "other.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"no header")
    for name, words in (
        ("other", "something else"),
        ("broken", r"`path`: got '.*broken\.safetensors' \("),
        ("missing", r"`path`: got '.*missing\.safetensors', where there is no file, expected"),
    ):
        with pytest.raises(ValueError, match=words):
            metrics.SmallClassifier.load(tmp_path / f"{name}.safetensors")


@pytest.mark.skipif("MMDIFFUSION_DATA" not in os.environ, reason="MMDIFFUSION_DATA is not set")
def test_it_reads_clothes():
    import gzip

    folder = Path(os.environ["MMDIFFUSION_DATA"]) / "fashion_mnist"

    def read(name, offset):
        return np.frombuffer(gzip.open(folder / name).read(), np.uint8, offset=offset)

    fitted = metrics.fit_classifier(
        read("train-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28),
        read("train-labels-idx1-ubyte.gz", 8),
        num_steps=500,
    )
    test = read("t10k-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28)
    truth = read("t10k-labels-idx1-ubyte.gz", 8)
    assert metrics.agreement(fitted.predict(test), truth) > 0.87
