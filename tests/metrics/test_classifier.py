"""The judge on real digits."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from mmdiffusion_jax import metrics


def test_the_judge_reads_real_digits():
    digits = load_digits()
    pixels = np.round(digits.images * 255 / 16).astype(np.uint8)[..., None]
    train, test, labels, truth = train_test_split(
        pixels, digits.target, test_size=0.2, stratify=digits.target, random_state=0
    )
    judge = metrics.fit_judge(train, labels)
    assert metrics.agreement(judge.predict(test), truth) > 0.97
    with pytest.raises(ValueError, match="2 labels"):
        metrics.fit_judge(train[:3], labels[:2])
