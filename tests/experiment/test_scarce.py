"""What training data mostly lack comes last in joint samples, and that is said once."""

import logging

import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import smoke
from mmdiffusion_jax import apps, data, experiment


def source_with(share, name="label", num=40):
    rng = np.random.default_rng(0)
    columns = {"image": np.zeros((num, 8, 8, 1), np.uint8), "label": np.arange(num) % 10}
    columns[f"{name}_present"] = np.arange(num) < share * num
    return data.ArraySource({key: rng.permutation(x) for key, x in columns.items()})


def adapted(config, source):
    return experiment.draw_scarce_last(config, experiment.build(config), source).sampling


@pytest.mark.parametrize(("share", "order"), [(0.2, ("image", "label")), (0.6, ())])
def test_a_scarce_label_is_read_after_the_image(share, order):
    assert adapted(smoke.get_config(), source_with(share)).order == order


def test_a_model_that_is_shown_nothing_leaves_it_out_of_the_states():
    config = smoke.get_config()
    config.loss.tasks = ConfigDict({"image, label": 1.0})
    assert adapted(config, source_with(0.2)).unknown == "absent"
    config.sampling.unknown = "estimated"
    assert adapted(config, source_with(0.2)).unknown == "estimated"


def test_an_order_that_the_config_names_stays():
    config = smoke.get_config()
    config.sampling.order = ("label", "image")
    assert adapted(config, source_with(0.2)) is config.sampling


def test_a_model_that_cannot_be_shown_the_image_keeps_its_order():
    config = smoke.get_config()
    config.loss.tasks = ConfigDict({"image | label": 1.0, "label": 1.0})
    assert adapted(config, source_with(0.2)) is config.sampling


@pytest.mark.long
def test_training_says_so_once_and_keeps_it(tmp_path, caplog):
    """In the config of the workdir, where every later command reads it; and a run goes on."""
    config = smoke.get_config()
    config.data.source = "npz"
    rng = np.random.default_rng(0)
    levels = np.round(rng.integers(0, 17, (64, 8, 8, 1)) * (255 / 16)).astype(np.uint8)
    labels = np.arange(64) % 10
    for split in ("train", "test"):
        config.data[split] = str(tmp_path / f"{split}.npz")
        np.savez(config.data[split], image=levels, label=labels, label_present=labels < 2)
    config.backbone.width, config.backbone.depth = 16, 1
    config.training.num_steps = 2
    config.training.eval_every = config.training.sample_every = 0
    workdir = str(tmp_path / "run")
    with caplog.at_level(logging.WARNING):
        apps.train(config, workdir)
    said = [record.getMessage() for record in caplog.records if "'label'" in record.getMessage()]
    assert len(said) == 1
    assert "21.9% have 'label'" in said[0]
    assert experiment.read_config(workdir).sampling.order == ("image", "label")
    config.training.num_steps = 3
    assert int(apps.train(config, workdir).step) == 3
