"""The arms: the same backbone and budget in each, and nothing else of the other tasks."""

import jax
import pytest
from ml_collections import ConfigDict

from configs import digits, everything
from mmdiffusion_jax import baselines, experiment


def config():
    base = experiment.default_config()
    base.modalities = ConfigDict(
        {
            "image": {"kind": "image"},
            "label": {"kind": "label", "num_classes": 10},
            "masked_image": {"kind": "masked_image", "num_squares": 2, "square_size": 3},
        }
    )
    rule = {"rule": "bump", "scale": 1.0}
    base.process.weights = ConfigDict({"label": rule, "masked_image": rule})
    base.process.shares = ConfigDict({"image": 1.0, "label": 0.1})
    base.loss.scales = ConfigDict({"image": 0.01, "label": 0.1})
    base.loss.dropout = ConfigDict({"label": 0.1})
    base.sampling.guidance = ConfigDict({"label": 1.5})
    base.backbone.width, base.backbone.depth = 16, 1
    return base


@pytest.fixture(scope="module")
def arms():
    return {name: baselines.make_arm(config(), name) for name in baselines.ARMS}


def test_the_parts(arms):
    assert {name: sorted(parts) for name, parts in arms.items()} == {
        "multi": ["joint"],
        "drift": ["joint"],
        "single": ["generate", "predict_label", "predict_masked_image"],
        "predict": ["predict_label", "predict_masked_image"],
        "single_augmented": ["generate"],
        "separate": ["joint"],
    }
    # The drift alone has one task, and its states do without some secondaries.
    loss = arms["drift"]["joint"].loss
    assert loss.tasks.to_dict() == {"image, label, masked_image": 1.0}
    assert "label" in loss.dropout
    predict = arms["single"]["predict_label"].predict.to_dict()
    assert predict == {"given": ("image",), "target": "label"}
    predict = arms["single"]["predict_masked_image"].predict.to_dict()
    assert predict == {"given": ("masked_image",), "target": "masked_image"}
    augmentation = arms["single_augmented"]["generate"].augmentation.to_dict()
    assert augmentation == {"rate": 0.5, "num_squares": 2, "square_size": 3}


@pytest.mark.parametrize(
    "config",
    [everything.get_config("small"), digits.get_config("few_labels")],
    ids=["everything", "few_labels"],
)
@pytest.mark.parametrize("name", baselines.ARMS)
def test_what_only_a_shown_network_has_is_left_out_of_its_rivals(config, name):
    config = config.copy_and_resolve_references()
    config.self_conditioned, config.loss.pure_noise = ("image",), 0.3
    config.primary_as_state = True
    for part in baselines.make_arm(config, name).values():
        settings = experiment.build(part).settings
        shown = (settings.diffused, settings.self_conditioned, settings.loss.believed)
        assert any(shown) == (name == "multi")
        assert settings.loss.pure_noise == (0.3 if name == "multi" else 0)
        assert settings.primary_as_state == (name == "multi")


def test_the_same_blocks_in_every_part(arms):
    def blocks(part):
        params = jax.eval_shape(experiment.build(part).init, jax.random.key(0))
        return jax.tree.map(lambda leaf: leaf.shape, params["backbone"]["blocks_0"])

    want = blocks(arms["multi"]["joint"])
    for parts in arms.values():
        for part in parts.values():
            assert blocks(part) == want
            assert part.training == config().training


def test_what_training_keeps_of_a_modality_is_asked_of_models_that_have_it():
    base = config()
    base.data.kept = ConfigDict({"label": 50})
    base.data.portions = ConfigDict({"label": 0.4})
    parts = baselines.make_arm(base, "single")
    assert parts["generate"].data.kept == parts["generate"].data.portions == ConfigDict()
    assert parts["predict_label"].data.kept == base.data.kept


def test_the_config_is_left_alone():
    before = config()
    for name in baselines.ARMS:
        baselines.make_arm(before, name)
    assert before == config()


@pytest.mark.parametrize(
    ("change", "name", "words"),
    [
        ({}, "mult", "`arms`: got 'mult'.*did you mean 'multi'"),
        ({"modalities": {"image": {"kind": "image"}}}, "single", "got 1 modalities"),
        ({"formulation": "separate"}, "multi", "in the formulation 'separate'"),
    ],
)
def test_nothing_to_compare(change, name, words):
    base = config()
    for key, value in change.items():
        base[key] = ConfigDict(value) if isinstance(value, dict) else value
    with pytest.raises(ValueError, match=words):
        baselines.make_arm(base, name)
