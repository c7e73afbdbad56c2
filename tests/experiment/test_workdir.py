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


RETUNED = {
    "learning_rate": 1e-4,
    "warmup_steps": 3,
    "weight_decay": 0.5,
    "gradient_clip": 2.0,
    "ema_decay": 0.9,
    "batch_size": 128,
    "accumulate": 2,
    "num_steps": 99,
}


def test_a_run_may_go_on_retuned_and_says_so_in_one_line(workdir, caplog):
    config = config_today()
    config.training.update(RETUNED)
    with pytest.raises(ValueError, match=r"differs in training\.batch_size, training\.ema_decay, "):
        experiment.check_workdir(workdir, config)
    before = config_today().training
    with experiment.hold_workdir(workdir, config, retuned=True):
        assert experiment.read_config(workdir).training == config.training
    (line,) = [record.getMessage() for record in caplog.records if "goes on" in record.getMessage()]
    for key in sorted({*RETUNED} - {"accumulate"}):
        assert f"training.{key} {RETUNED[key]} ({before[key]} before)" in line
    assert "anything else is another experiment" in line
    caplog.clear()
    with experiment.hold_workdir(workdir, config, retuned=True):
        assert "goes on" not in caplog.text


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("training.optimiser", "muon"),
        ("training.ema_widths", (0.1,)),
        ("seed", 1),
        ("loss.pure_noise", 0.5),
        ("init_from", "elsewhere"),
    ],
)
def test_what_a_run_may_not_go_on_with(workdir, path, value):
    config = config_today()
    section, _, key = path.rpartition(".")
    (config[section] if section else config)[key] = value
    words = (
        rf"differs in {path} .*a run may go on with .*learning_rate.*config\.init_from={workdir}"
    )
    with pytest.raises(ValueError, match=words):
        experiment.check_workdir(workdir, config, retuned=True)


@pytest.mark.parametrize(
    ("sampler", "eta", "kept"),
    [
        ("ancestral", 0.0, {"kind": "ancestral"}),
        ("ddim", 0.0, {"kind": "ddim", "eta": 0.0}),
        ({"kind": "ddim", "eta": 0.2}, 0.7, {"kind": "ddim", "eta": 0.7}),
        ({"kind": "ddim", "eta": 0.2}, 0.0, {"kind": "ddim", "eta": 0.0}),
        ("ddim(eta=0.5)", 0.0, {"kind": "ddim", "eta": 0.0}),
    ],
)
def test_eta_beside_a_sampler_is_its_field(sampler, eta, kept):
    values = {**CONFIG, "sampling": {"sampler": sampler, "eta": eta}}
    assert experiment.config_of(values).sampling.sampler.to_dict() == kept


def test_eta_of_a_sampler_without_it():
    values = {**CONFIG, "sampling": {"sampler": "heun", "eta": 0.5}}
    with pytest.raises(ValueError, match=r"`config\.sampling\.sampler`: got 'eta'"):
        experiment.config_of(values)
