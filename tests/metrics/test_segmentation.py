"""The streaming confusion matrix against scikit-learn's."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, jaccard_score

from mmdiffusion_jax import metrics

RNG = np.random.default_rng(0)
TRUTH, PREDICTED = RNG.integers(0, 5, (2, 3, 8, 6)).astype(np.uint8)


def counted(truth, predicted, void=None, num_classes=5):
    return metrics.ConfusionStatistics.empty(num_classes).update(truth, predicted, void)


@pytest.mark.parametrize("void", [None, 4])
def test_against_scikit_learn(void):
    got = counted(TRUTH, PREDICTED, void)
    keep = np.not_equal(TRUTH, -1 if void is None else void)
    truth, predicted = TRUTH[keep], PREDICTED[keep]
    np.testing.assert_array_equal(got.matrix, confusion_matrix(truth, predicted, labels=range(5)))
    np.testing.assert_allclose(got.pixel_accuracy(), accuracy_score(truth, predicted))
    want = jaccard_score(truth, predicted, labels=range(5), average=None)
    np.testing.assert_allclose(got.iou(), want)
    np.testing.assert_allclose(got.compute(), want.mean())


@pytest.mark.parametrize("dtype", [np.int8, np.uint64])
def test_classes_of_any_width(dtype):
    want = counted(TRUTH, PREDICTED).matrix
    for truth, predicted in ((TRUTH.astype(dtype), PREDICTED), (TRUTH, PREDICTED.astype(dtype))):
        np.testing.assert_array_equal(counted(truth, predicted).matrix, want)


def test_void_outside_the_classes_hides_what_was_predicted_there():
    truth, predicted = np.array([0, 1, 255]), np.array([0, 1, 99])
    assert counted(truth, predicted, void=255).pixel_accuracy() == 1.0


def test_classes_on_neither_side_do_not_count():
    got = counted(np.array([0, 0, 1]), np.array([0, 1, 1]))
    np.testing.assert_array_equal(np.isnan(got.iou()), [False, False, True, True, True])
    assert got.compute() == 0.5
    assert np.isnan(metrics.ConfusionStatistics.empty(3).compute())
    assert np.isnan(metrics.ConfusionStatistics.empty(3).pixel_accuracy())


@pytest.mark.parametrize(
    ("truth", "predicted", "words"),
    [
        ([0, 1], [0], r"`predicted`: got shape \(1,\), expected \(2,\)"),
        ([0, 5], [0, 1], r"`truth`: got int64 values in 0 … 5, expected whole numbers in 0 … 4"),
        ([0, 1], [0, -1], "`predicted`: got int64 values in -1 … 0"),
        ([0, 1], [0.0, 1.0], "`predicted`: got float64"),
    ],
)
def test_bad_masks(truth, predicted, words):
    with pytest.raises(ValueError, match=words):
        counted(truth, predicted)


def test_one_class_is_refused():
    with pytest.raises(ValueError, match="`num_classes`: got 1"):
        metrics.ConfusionStatistics.empty(1)
