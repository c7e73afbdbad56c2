"""Tasks in a config: what is left out, what is shown, and what cannot be."""

import pytest
from ml_collections import ConfigDict

from configs import digits
from mmdiffusion_jax import experiment


def settings_of(**loss):
    config = digits.get_config()
    config.loss.update(ConfigDict(loss))
    return experiment.read_settings(config)


def test_tasks_that_are_left_out_are_made():
    settings = settings_of()
    assert settings.loss.tasks == {
        "image, label": 0.1, "label": 0.05, "image | label": 0.7, "label | image": 0.2,
    }  # fmt: skip
    assert settings.loss.dropout == {"image": 0.1, "label": 0.1}
    assert settings.loss.weighting == {"kind": "v"}
    assert settings.shows == ("image", "label")
    assert experiment.read_settings(settings.to_dict()) == settings


def test_one_task_of_all_shows_nothing():
    settings = settings_of(tasks={"image, label": 1.0})
    assert settings.shows == ()
    assert settings.loss.dropout == {}
    assert settings.loss.weighting == {"kind": "auto"}


def test_a_rate_that_is_given_stays():
    settings = settings_of(tasks={"image | label": 1.0}, dropout={"label": 0.0}, weighting="none")
    assert settings.loss.dropout == {"label": 0.0}
    assert settings.loss.weighting == {"kind": "none"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"order": ("lable", "image")}, "`config.sampling.order`: got 'lable'.*mean 'label'"),
        ({"shown_levels": {"imag": (0.5,)}}, "`config.sampling.shown_levels.imag`: got 'imag'"),
    ],
)
def test_names_of_sampling_that_no_modality_has(options, words):
    config = digits.get_config()
    config.sampling.update(ConfigDict(options))
    with pytest.raises(ValueError, match=words):
        experiment.read_settings(config)


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        ({"tasks": {"image | lable": 1.0}}, "`config.loss.tasks`: got 'lable'.*mean 'label'"),
        ({"tasks": {"| label": 1.0}}, "`config.loss.tasks`: got '. label', expected"),
        ({"tasks": {"image, label": 1.0}, "kind": "bound"}, "`config.loss.tasks`: got 'image, lab"),
        ({"shown_noise": {"image": 2.0}}, "`config.loss.shown_noise.image`: got 2.0"),
        ({"pure_noise": -0.1}, "`config.loss.pure_noise`: got -0.1"),
        ({"shown_noise": {"imag": 0.5}}, "`config.loss.shown_noise.imag`: got 'imag'"),
    ],
)
def test_what_no_task_can_be(loss, words):
    with pytest.raises(ValueError, match=words):
        settings_of(**loss)
