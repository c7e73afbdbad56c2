"""What a support vector machine makes of labels, beside scikit-learn's own pipeline."""

import numpy as np
import pytest
from sklearn.svm import SVC

from mmdiffusion_jax import data, evaluation, experiment


@pytest.fixture(scope="module")
def digits():
    config = experiment.read_config_file("digits")
    return experiment.build(config), *experiment.open_data(config)


def test_it_is_what_scikit_learn_says_of_the_labelled_images_alone(digits):
    built, train, test = digits
    x, y = (train.take(np.arange(300))[name] for name in ("image", "label"))
    has = np.zeros(len(y), bool)
    has[:60] = True
    wrong = np.where(has, y, 0)  # what lacks its label holds a placeholder
    train = data.ArraySource({"image": x, "label": wrong, "label_present": has})
    (result,) = evaluation.labels_by_svm(built, train, test)
    columns = test.take(np.arange(len(test)))
    machine = SVC(C=10).fit(x[:60].reshape(60, -1).astype(float), y[:60])
    accuracy = machine.score(
        columns["image"].reshape(len(test), -1).astype(float), columns["label"]
    )
    assert result == evaluation.SvmAccuracy("label", "image", accuracy, 60, len(test))
    assert 0.6 < accuracy < 0.99


def test_shuffled_labels_are_read_by_chance(digits):
    built, train, test = digits
    columns = train.take(np.arange(600))
    columns["label"] = np.random.default_rng(0).permutation(columns["label"])
    (result,) = evaluation.labels_by_svm(built, data.ArraySource(columns), test)
    assert result.accuracy < 0.2


def test_of_one_class_there_is_nothing_to_say(digits):
    built, train, test = digits
    columns = train.take(np.arange(20))
    columns["label"] = np.zeros_like(columns["label"])
    assert list(evaluation.labels_by_svm(built, data.ArraySource(columns), test)) == []
