"""What a run shows of itself: the losses of held-out examples, and a sheet of samples."""

import dataclasses
import types

import numpy as np
import pytest

from mmdiffusion_jax import data
from mmdiffusion_jax.evaluation import contact_sheet, loss_names, monitor


def first(digits, count):
    return data.ArraySource({name: digits[0][name][:count] for name in ("image", "label")})


@pytest.fixture
def split(digits):
    return first(digits, 20)


def test_losses_of_these_parameters(built, digits):
    experiment, params = built
    split = first(digits, 100)  # so that each task is drawn by some
    losses = monitor(experiment, split).evaluate(params)
    assert set(losses) == loss_names(experiment, split)
    assert np.isfinite(list(losses.values())).all()


def test_samples_of_these_parameters(built, split):
    experiment, params = built
    watch = monitor(experiment, split, profile=(1, 2))
    sheet = watch.picture(params)
    assert sheet.dtype == np.uint8
    assert sheet.shape[2] == 3
    np.testing.assert_array_equal(sheet, watch.picture(params))
    assert watch.profile == (1, 2)


def test_a_model_that_predicts_is_shown_examples(digits, split):
    """Each with what is predicted from it; only as many as there are."""
    model = types.SimpleNamespace(modalities=digits[1])
    stub = types.SimpleNamespace(
        seed=0, model=model, evaluation=None,
        formulation=types.SimpleNamespace(predicts_from=("image",)),
        training=types.SimpleNamespace(best_metric=""),
        generate=lambda key, params, count, given: {**given, "label": np.zeros(count, int)},
    )  # fmt: skip
    images = split.take(np.arange(20))["image"]
    want = contact_sheet(model, {"image": images, "label": np.zeros(20, int)})
    np.testing.assert_array_equal(monitor(stub, split).picture(None), want)


def test_a_best_metric_that_will_not_be_there(built, digits, split):
    experiment, _ = built
    training = dataclasses.replace(experiment.training, best_metric="label/los")
    settings = dataclasses.replace(experiment.settings, training=training)
    experiment = dataclasses.replace(experiment, settings=settings)
    with pytest.raises(ValueError, match=r"`training\.best_metric`.*did you mean 'label/loss'"):
        monitor(experiment, split)
    columns = {name: digits[0][name][:20] for name in ("image", "label")}
    nowhere = data.ArraySource({**columns, "label_present": np.zeros(20, bool)})
    training = dataclasses.replace(training, best_metric="label/loss")
    settings = dataclasses.replace(settings, training=training)
    experiment = dataclasses.replace(experiment, settings=settings)
    monitor(experiment, split)
    with pytest.raises(ValueError, match=r"`training\.best_metric`: got 'label/loss'"):
        monitor(experiment, nowhere)
