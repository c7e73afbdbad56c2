"""Workdirs of an earlier version go on, and those of another experiment do not."""

import json

import pytest

from mmdiffusion_jax import experiment, sampling
from tests.experiment.before import CONFIG, config_today


@pytest.fixture
def workdir(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    return tmp_path


def test_a_workdir_of_before_is_read(workdir):
    config = experiment.read_config(workdir)
    assert experiment.read_settings(config) == experiment.read_settings(config_today())
    assert experiment.build(config).sampling.stepper() == sampling.DDIM(eta=0.5)


def test_a_workdir_of_before_goes_on_in_the_form_of_today(workdir):
    with experiment.hold_workdir(workdir, config_today()):
        written = json.loads((workdir / "config.json").read_text())
    assert written["process"]["schedule"] == {
        "kind": "linear",
        "beta_start": 1e-4,
        "beta_end": 0.02,
    }
    assert experiment.config_of(written) == experiment.config_of(CONFIG)


def test_another_parameter_of_a_schedule_is_another_experiment(workdir):
    config = config_today()
    config.process.schedule = "linear(beta_end=0.01)"
    with pytest.raises(ValueError, match=r"differs in process\.schedule\.beta_end \("):
        experiment.check_workdir(workdir, config)
    config = config_today()
    config.sampling.sampler = "heun"
    experiment.check_workdir(workdir, config)


@pytest.mark.parametrize(
    ("sampler", "eta", "kept"),
    [
        ("ancestral", 0.0, {"kind": "ancestral"}),
        ("ddim", 0.0, {"kind": "ddim", "eta": 0.0}),
        ({"kind": "ddim", "eta": 0.2}, 0.7, {"kind": "ddim", "eta": 0.7}),
    ],
)
def test_eta_beside_a_sampler_is_its_field(sampler, eta, kept):
    values = {**CONFIG, "sampling": {"sampler": sampler, "eta": eta}}
    assert experiment.config_of(values).sampling.sampler.to_dict() == kept


def test_eta_of_a_sampler_without_it():
    values = {**CONFIG, "sampling": {"sampler": "heun", "eta": 0.5}}
    with pytest.raises(ValueError, match=r"`config\.sampling\.sampler`: got 'eta'"):
        experiment.config_of(values)
