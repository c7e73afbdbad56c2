"""Training examples that are held out for what is chosen while training."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict

from mmdiffusion_jax import apps, data, evaluation, experiment
from tests.apps.small import smoke_config

NUM = 40


@pytest.fixture
def config(tmp_path):
    """A small config on 40 training images and 10 test images, each all of one value."""
    config = smoke_config()
    config.data.source, config.modalities.image.num_levels = "npz", 256
    for split, values in (("train", np.arange(NUM)), ("test", np.arange(200, 210))):
        config.data[split] = str(tmp_path / f"{split}.npz")
        images = np.tile(values.astype(np.uint8)[:, None, None, None], (1, 8, 8, 1))
        np.savez(config.data[split], image=images, label=np.arange(len(values)) % 10)
    config.training.num_steps = 2
    config.training.eval_every = 1
    config.training.sample_every = 0
    config.training.batch_size = 16
    return config


def values_of(source):
    return source.take(np.arange(len(source)))["image"][:, 0, 0, 0].tolist()


def test_without_a_share_the_test_split_evaluates(config):
    splits = experiment.open_splits(config)
    assert splits.validation is splits.test
    assert values_of(splits.train) == list(range(NUM))


def test_what_is_held_out_is_not_trained_on(config):
    config.data.held_out = 0.25
    config.data.kept = ConfigDict({"label": 12})
    train, test, validation = experiment.open_splits(config)
    assert sorted(values_of(train) + values_of(validation)) == list(range(NUM))
    assert len(validation) == 10
    assert values_of(test) == list(range(200, 210))
    seen = itertools.islice(data.train_batches(train, batch_size=10, seed=0), 6)
    values = [value for batch in seen for value in batch["image"][:, 0, 0, 0].tolist()]
    assert sorted(values) == sorted(2 * values_of(train))
    # Labels are scarce for training alone, and as many are kept as without the share.
    assert train.take(np.arange(30))["label_present"].sum() == 12
    assert "label_present" not in validation.columns
    config.seed = 1
    assert values_of(experiment.open_splits(config).validation) == values_of(validation)
    assert [len(source) for source in experiment.open_data(config, whole=True)] == [30, 10]


def test_derived_modalities_are_drawn_for_both_parts(config):
    squares = {"kind": "masked_image", "num_squares": 1, "square_size": 3}
    config.modalities.masked_image = ConfigDict(squares)
    config.process.weights.masked_image = ConfigDict({"rule": "bump", "scale": 1.0})
    config.data.held_out = 0.25
    train, _, validation = experiment.open_splits(config)
    for source in (train, validation):
        batch = source.take(np.arange(len(source)))
        hidden = batch["masked_image"][..., -1] == 0
        assert set(hidden.sum((1, 2)).tolist()) == {9} or set((~hidden).sum((1, 2)).tolist()) == {9}
    # Training draws the squares anew, as it does without a share.
    batches = itertools.islice(data.train_batches(train, batch_size=30, seed=0), 2)
    first, second = ({x.tobytes() for x in batch["masked_image"]} for batch in batches)
    assert first != second


@pytest.mark.parametrize("share", [0.001, 0.999])
def test_a_share_that_leaves_nothing(config, share):
    config.data.held_out = share
    words = rf"`config\.data\.held_out`: got {share}, expected a share of the 40 training examples"
    with pytest.raises(ValueError, match=words):
        experiment.open_splits(config)


def test_a_share_that_leaves_training_without_a_modality(config):
    config.data.held_out = 0.5
    kept = values_of(experiment.open_splits(config).train)
    values = np.arange(NUM)
    images = np.tile(values.astype(np.uint8)[:, None, None, None], (1, 8, 8, 1))
    present = values == next(x for x in values if x not in kept)
    np.savez(config.data.train, image=images, label=values % 10, label_present=present)
    with pytest.raises(ValueError, match=r"`config\.data\.held_out`: got 0\.5, .* with 'label'"):
        experiment.open_splits(config)


def test_a_share_of_all(config):
    config.data.held_out = 1.0
    with pytest.raises(ValueError, match=r"`config\.data\.held_out`: got 1"):
        experiment.build(config)


@pytest.mark.parametrize("share", [0.0, 0.25])
def test_evaluations_while_training_take_it(config, tmp_path, caplog, share):
    config.data.held_out = share
    config.training.best_metric = "loss"
    workdir = str(tmp_path / "w")
    apps.train(config, workdir)
    _, built, params = apps.load(workdir)
    splits = experiment.open_splits(config)
    lines = [json.loads(line) for line in Path(workdir, "metrics.jsonl").read_text().splitlines()]
    (written,) = (line["eval/loss"] for line in lines if line["step"] == 2 and "eval/loss" in line)
    losses = [
        evaluation.loss_on(built, x)(params)["loss"] for x in (splits.validation, splits.test)
    ]
    assert written == pytest.approx(losses[0], rel=1e-5)
    assert (losses[0] == losses[1]) == (share == 0)
    said = [text for text in caplog.messages if "config.data.held_out" in text]
    assert len(said) == (share == 0)
