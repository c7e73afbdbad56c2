"""Calibration by loops over bins, and agreement."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score

from mmdiffusion_jax import metrics

RNG = np.random.default_rng(0)
P, LABELS = RNG.dirichlet(np.full(3, 0.5), 200), RNG.integers(0, 3, 200)


@pytest.mark.parametrize("num_bins", [1, 7, 15])
def test_calibration_against_bins(num_bins):
    confidence, right = P.max(axis=1), P.argmax(axis=1) == LABELS
    want = 0.0
    for i in range(num_bins):
        inside = (confidence > i / num_bins) & (confidence <= (i + 1) / num_bins)
        if inside.any():
            want += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    statistics = metrics.CalibrationStatistics.empty(num_bins).update(P, LABELS)
    np.testing.assert_allclose(statistics.compute(), want)
    np.testing.assert_allclose(
        statistics.correct.sum() / 200, accuracy_score(LABELS, P.argmax(axis=1))
    )


def test_the_edges_of_bins_are_theirs():
    statistics = metrics.CalibrationStatistics.empty(4)
    for row in ([0.5, 0.5], [0.75, 0.25], [1.0, 0.0]):
        statistics = statistics.update(np.array([row]), np.array([0]))
    assert statistics.count.tolist() == [0, 1, 1, 1]


def test_probabilities_that_hold_are_calibrated():
    p = RNG.dirichlet(np.ones(3), 50_000)
    labels = (RNG.uniform(size=(len(p), 1)) > p.cumsum(axis=1)).sum(axis=1)
    assert metrics.CalibrationStatistics.empty().update(p, labels).compute() < 0.01


def test_agreement():
    predicted = P.argmax(axis=1)
    assert metrics.agreement(predicted, LABELS) == accuracy_score(LABELS, predicted)
    with pytest.raises(ValueError, match=r"`labels`: got shape \(200, 1\), expected \(200,\)"):
        metrics.agreement(predicted, LABELS[:, None])


@pytest.mark.parametrize(
    ("p", "labels", "words"),
    [
        (2 * P, LABELS, r"`probabilities`: got shape \(200, 3\) with rows that sum to \[2\."),
        (P - 1 / 3, LABELS, "pass probabilities, not logits"),
        (P[0], LABELS, r"got shape \(3,\)"),
        (P[:0], LABELS[:0], r"got shape \(0, 3\)"),
        (P, LABELS[:5], r"`labels`: got int64 of shape \(5,\), expected \(200,\)"),
        (P, LABELS + 1, "whole numbers in 0 … 2"),
    ],
)
def test_bad_predictions(p, labels, words):
    with pytest.raises(ValueError, match=words):
        metrics.CalibrationStatistics.empty().update(p, labels)


def test_bad_bins():
    with pytest.raises(ValueError, match="`num_bins`: got 0"):
        metrics.CalibrationStatistics.empty(0)
