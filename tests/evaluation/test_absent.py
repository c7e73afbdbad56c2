"""Absent values count nowhere: figures are those of the present examples alone."""

import dataclasses
import types

import jax.numpy as jnp
import numpy as np
import pytest

from mmdiffusion_jax import data, metrics, objective
from mmdiffusion_jax.evaluation import (
    conditional_figures,
    evaluate,
    judge_figures,
    loss_on,
    values_of,
)
from mmdiffusion_jax.evaluation.likelihood import bound_on, flow_on, labels_by_scoring
from mmdiffusion_jax.experiment import EvaluationOptions
from tests.evaluation.conftest import real_data

SECONDARIES = ("label", "mask", "masked_image", "audio", "embedding")
# What nobody may look at: other labels, classes that there are not, and no numbers at all.
PLACEHOLDERS = {"label": -1, "mask": 99, "masked_image": 7, "audio": np.nan, "embedding": np.nan}


def half_absent(columns, name):
    """The columns with every other value of one of them absent, and which are present."""
    present = np.arange(len(columns["image"])) % 2 == 0
    x = columns[name].copy()
    x[~present] = PLACEHOLDERS[name]
    return {**columns, name: x, f"{name}_present": present}, present


@pytest.mark.parametrize("name", SECONDARIES)
def test_figures_of_samples_are_those_of_present_truth(digits, name):
    """Values that are right where the truth is known and wrong elsewhere are all right."""
    columns, modalities = digits
    harmed, present = half_absent(columns, name)
    real = real_data(harmed, modalities)
    truth = real.test
    samples = {other: columns[other][400:] for other in modalities if other != "masked_image"}
    figures = {x.name: x for x in conditional_figures(real, "masked_image", samples, truth)}
    count = dict.fromkeys(modalities, 200) | {name: int(present[400:].sum())}
    assert figures["label_given_masked_image/accuracy"].value == 1
    assert figures["label_given_masked_image/accuracy"].num_examples == count["label"]
    assert figures["mask_given_masked_image/iou"].value == 1
    assert figures["mask_given_masked_image/iou"].num_examples == count["mask"]
    assert figures["embedding_given_masked_image/cosine"].value == pytest.approx(1)
    assert figures["embedding_given_masked_image/cosine"].num_examples == count["embedding"]
    # No pixel is wrong, which counts as an error of rounding, of the variance 1/12.
    psnr = figures["image_given_masked_image/psnr"].value
    assert psnr == pytest.approx(10 * np.log10(255**2 / (1 / 12)))
    for kind in ("image", "audio"):
        agreement = figures[f"{kind}_given_masked_image/agreement"]
        assert agreement.num_examples == count["label"]
        assert agreement.value > 0.75


@pytest.mark.parametrize("name", ["label", "audio"])
def test_judges_are_trained_and_tried_on_what_is_present(digits, name):
    columns, modalities = digits
    harmed, present = half_absent(columns, name)
    real = real_data(harmed, modalities)
    figures = {figure.name: figure for figure in judge_figures(real)}
    figure = figures["judge/audio_label/accuracy"]
    accuracy, count = figure.value, figure.num_examples
    kept = {other: x[present] for other, x in columns.items()}
    judge = metrics.fit_judge(kept["audio"][:200], kept["label"][:200])
    want = np.mean(judge.predict(kept["audio"][200:]) == kept["label"][200:])
    assert (accuracy, count) == (want, 100)


def test_no_label_is_present(digits):
    """Each figure that needs labels says why it is left out; the others are there."""
    columns, modalities = digits
    nowhere = {**columns, "label_present": np.zeros(600, bool)}
    real = real_data(nowhere, modalities)
    samples = {name: columns[name][400:] for name in ("image", "label", "mask")}
    figures = list(conditional_figures(real, "masked_image", samples, real.test))
    absent = {x.name for x in figures if x.reason == "no example has all that it takes"}
    assert absent == {"label_given_masked_image/accuracy", "image_given_masked_image/agreement"}
    assert values_of(figures)["mask_given_masked_image/iou"] == 1


def test_the_loss_is_the_mean_of_the_data_not_of_batches():
    """Batches of unlike sizes with unlike shares of labels, and a term that nothing counts in."""
    rng = np.random.default_rng(1)
    x, present = rng.normal(size=23), rng.random(23) < np.linspace(0, 1, 23)
    source = data.ArraySource({"image": x, "label": 3 * x, "label_present": present})

    def terms(params, key, batch):
        mask = batch["label_present"].astype(jnp.float32)
        return objective.LossTerms(
            {
                "image/squared_error": objective.LossTerm(batch["image"], jnp.ones_like(mask)),
                "label/loss": objective.LossTerm(batch["label"], mask, 2.0),
                "mask/loss": objective.LossTerm(batch["image"], jnp.zeros_like(mask)),
            }
        )

    stub = types.SimpleNamespace(
        model=types.SimpleNamespace(modalities=("image", "label")),
        evaluation=EvaluationOptions(batch_size=5),
        formulation=types.SimpleNamespace(loss=terms),
    )
    figures = loss_on(stub, source)(None)
    assert set(figures) == {"loss", "image/squared_error", "label/loss"}
    assert figures["image/squared_error"] == pytest.approx(x.mean(), rel=1e-5)
    assert figures["label/loss"] == pytest.approx(3 * x[present].mean(), rel=1e-5)
    want = x.mean() + 6 * x[present].mean()
    assert figures["loss"] == pytest.approx(want, rel=1e-5)


@pytest.mark.long
def test_likelihoods_are_those_of_whole_examples(built, digits):
    experiment, params = built
    columns = {name: digits[0][name] for name in ("image", "label")}
    harmed, present = half_absent(columns, "label")
    kept = data.ArraySource({name: x[present] for name, x in columns.items()})
    harmed = data.ArraySource(harmed)
    figures = bound_on(experiment, params, harmed)
    assert figures == bound_on(experiment, params, kept)
    assert {figure.num_examples for figure in figures} == {30}
    scores = [labels_by_scoring(experiment, params, source, "label") for source in (harmed, kept)]
    assert scores[0] == scores[1]
    nowhere = data.ArraySource({**columns, "label_present": np.zeros(600, bool)})
    for figure in (*bound_on(experiment, params, nowhere), *flow_on(experiment, params, nowhere)):
        assert figure.value is None


def test_an_evaluation_does_not_look_at_absent_values(built, digits):
    """Every figure is the same whatever stands in their place, in training and test data."""
    experiment, params = built
    # Likelihoods have a test of their own.
    unscored = dataclasses.replace(experiment.evaluation, num_scored=0)
    settings = dataclasses.replace(experiment.settings, evaluation=unscored)
    experiment = dataclasses.replace(experiment, settings=settings)
    columns = {name: digits[0][name] for name in ("image", "label")}
    figures = []
    for value in (-1, 3):
        harmed, present = half_absent(columns, "label")
        harmed["label"] = np.where(present, harmed["label"], value)
        train, test = (
            data.ArraySource({name: x[rows] for name, x in harmed.items()})
            for rows in (slice(400), slice(400, None))
        )
        figures.append(list(evaluate(experiment, params, train, test)))
    assert figures[0] == figures[1]
    counts = {x.name: x.num_examples for x in figures[0]}
    assert counts["judge/image_label/accuracy"] == 100
    assert counts["image_given_label/agreement"] == counts["joint/frechet"] == 12
    assert all(x.value is not None for x in figures[0])
