"""The sections of a config: their defaults, and choices with fields from configs and flags."""

import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import digits, image_segmentation, smoke
from mmdiffusion_jax import apps, experiment, objective, process


def test_the_default_config_says_what_the_sections_do():
    config = experiment.default_config()
    config.modalities = {"image": {"kind": "image"}}
    modalities = {"image": "image"}
    settings = experiment.read_settings(config)
    assert settings == experiment.Settings(modalities=modalities)
    assert settings == experiment.read_settings({"modalities": modalities})
    assert settings == experiment.read_settings(ConfigDict(settings.to_dict()))


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("cosine", lambda: process.cosine_schedule(20)),
        ("linear", lambda: process.linear_schedule(20)),
        ({"kind": "cosine", "offset": 0.05}, lambda: process.cosine_schedule(20, offset=0.05)),
        ("linear(beta_end=0.01)", lambda: process.linear_schedule(20, beta_end=0.01)),
        (ConfigDict({"kind": "sigmoid", "end": 2.0}), lambda: process.sigmoid_schedule(20, end=2)),
    ],
)
def test_a_schedule_has_the_parameters_that_a_config_gives(schedule, expected):
    config = smoke.get_config()
    config.process.schedule = schedule
    built = experiment.build(config)
    np.testing.assert_array_equal(built.process.schedule.alpha_bar, expected().alpha_bar)


@pytest.mark.parametrize(
    ("flags", "schedule", "sampler"),
    [
        ((), {"kind": "cosine", "offset": 0.008}, {"kind": "ancestral"}),
        (
            ("--config.process.schedule.offset=0.1", "--config.sampling.sampler=ddim"),
            {"kind": "cosine", "offset": 0.1},
            {"kind": "ddim", "eta": 0.0},
        ),
        (
            ("--config.process.schedule=linear", "--config.sampling.sampler=ddim(eta=0.5)"),
            {"kind": "linear", "beta_start": 1e-4, "beta_end": 0.02},
            {"kind": "ddim", "eta": 0.5},
        ),
        (
            ("--config.process.schedule={'kind': 'sigmoid', 'start': -2.0}",),
            {"kind": "sigmoid", "start": -2.0, "end": 3.0, "temperature": 1.0},
            {"kind": "ancestral"},
        ),
    ],
)
def test_flags_choose_and_set_fields(tmp_path, flags, schedule, sampler):
    run = apps.expand_sweep("configs/smoke.py", str(tmp_path), flags)[0]
    settings = experiment.read_settings(run.config)
    assert settings.process.schedule == schedule
    assert settings.sampling.sampler == sampler


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("process.schedule", "cosin", r"`config\.process\.schedule`.*did you mean 'cosine'"),
        ("process.schedule", "linear(offset=1)", r"schedule`: got 'offset', a field of 'cosine'"),
        ("process.schedule", {"kind": "cosine", "ofset": 1}, r"got 'ofset'.*mean 'offset'"),
        ("process.schedule", "cosine(offset='0')", r"config\.process\.schedule\.offset`: got '0'"),
        (
            "process.schedule",
            "linear(beta_start=-1.0)",
            r"`config\.process\.schedule\.betas`: got ",
        ),
        ("process.schedule", 3, r"`config\.process\.schedule`: got 3"),
        ("loss.weighting", "min_snrr", r"`config\.loss\.weighting`.*did you mean 'min_snr'"),
        ("training", 3, r"`config\.training`: got 3, expected a section"),
        ("backbone", "dit(widht=3)", r"`config\.backbone`: got 'widht'.*did you mean 'width'"),
    ],
)
def test_bad_choices(path, value, words):
    config = ConfigDict(smoke.get_config().to_dict(), type_safe=False)
    *sections, key = path.split(".")
    section = config
    for name in sections:
        section = section[name]
    section[key] = value
    with pytest.raises(ValueError, match=words):
        experiment.build(config)


def test_a_flag_for_a_field_that_the_file_leaves_out():
    words = experiment.unknown_override(
        ["--config=configs/image_label.py:small", "--config.sampling.sampler.order=3"]
    )
    assert words.startswith("`config.sampling.sampler.order`: got a flag")
    assert "--config.sampling.sampler='dpm_solver_pp_2m_sde(order=…)'" in words
    assert "got 'etta'" in experiment.unknown_override(["--config.sampling.sampler.etta=3"])


def test_a_weighting_has_its_parameters():
    config = smoke.get_config()
    config.loss.weighting = "min_snr(gamma=2.0)"
    weighting = experiment.read_settings(config).loss.make_weighting()
    snr = np.array([0.5, 2.0, 8.0], np.float32)
    np.testing.assert_allclose(weighting(snr), objective.min_snr_weighting(2.0)(snr))


def believing(tasks):
    config = smoke.get_config()
    config.loss.tasks, config.loss.believed = tasks, ("label",)
    return config


def test_what_is_believed_is_drawn_from_what_tasks_know():
    tasks = {"image, label": 0.5, "image | label": 0.5}
    words = (
        r"`config\.loss\.believed`: got 'label', which the task 'image \| label' has drawn from "
        r"'image', .*; add a task that shows it, such as 'label \| image', or leave 'label' out"
    )
    with pytest.raises(ValueError, match=words):
        experiment.read_settings(believing(tasks))
    for other in ("label | image", "image | image"):
        settings = experiment.read_settings(believing({**tasks, other: 0.5}))
        assert settings.shows == ("image", "label")
    # Neither are tasks that no example draws.
    with pytest.raises(ValueError, match=r"`config\.loss\.believed`"):
        experiment.read_settings(believing({**tasks, "label | image": 0.0}))
    # The default tasks show everything.
    assert experiment.read_settings(believing({})).loss.believed == ("label",)


@pytest.mark.parametrize(
    "config",
    [digits.get_config("few_labels"), image_segmentation.get_config("few")],
    ids=["digits", "image_segmentation"],
)
def test_configs_that_believe(config):
    settings = experiment.build(config).settings
    assert settings.loss.believed
    assert {settings.primary, *settings.loss.believed} <= set(settings.shows)
