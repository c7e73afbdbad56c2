"""Updates from the command line, of a run that is finished."""

import json
import shutil
import sys

import chex
import jax
import pytest
from ml_collections import ConfigDict

from mmdiffusion_jax import apps, experiment, graceful
from mmdiffusion_jax.apps.update import _record as record_of
from mmdiffusion_jax.experiment import contents
from tests.apps.small import SMALL, launch
from tests.graceful.small import built_with

SUCCESSOR = ("--config=configs/graceful_update.py", *SMALL[1:], "--config.training.num_steps=4")


@pytest.fixture(scope="module")
def updated(finished, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("update") / "w"
    data = f"--config.data.folder={finished.parent}"
    done = launch("update", *SUCCESSOR, f"--workdir={workdir}", f"--from={finished}", data)
    assert done.returncode == 0, done.stderr
    return workdir


def config_of(workdir, **options):
    """The config that an update was made with."""
    config = apps.load(str(workdir))[0].copy_and_resolve_references()
    known = json.loads((workdir / "update.json").read_text())["options"]
    config.graceful = {**known, **options}
    return config


@pytest.mark.long
def test_a_successor_knows_what_it_was_held_to(updated, finished):
    record = json.loads((updated / "update.json").read_text())
    old = apps.freeze(str(finished))
    assert record["compatible_with"]["label"] == [old.encoders["label"].fingerprint]
    kept = graceful.read_bundle(updated / "deployed-0.safetensors")
    chex.assert_trees_all_equal(kept.params, jax.device_get(old.params))
    new = apps.freeze(str(updated))
    assert new.encoders["label"].fingerprint != old.encoders["label"].fingerprint
    assert new.encoders["label"].goes_with(old.encoders["label"])
    lines = [json.loads(line) for line in (updated / "metrics.jsonl").read_text().splitlines()]
    assert "train/deployed_0/denoiser" in lines[0]
    assert "train/label/distillation" in lines[0]


def test_it_goes_on_and_nowhere_else(updated, finished, tmp_path):
    step = apps.update(config_of(updated), str(updated), [str(finished)]).step
    assert int(step) == 4
    with pytest.raises(ValueError, match="which holds an update that differs in options"):
        apps.update(config_of(updated, heads=2.0), str(updated), [str(finished)])
    with pytest.raises(ValueError, match="expected another folder than the deployed model's"):
        apps.update(config_of(updated), str(finished), [str(finished)])
    other = tmp_path / "other"
    shutil.copytree(finished, other)
    with pytest.raises(ValueError, match="`workdir`: got"):
        apps.update(config_of(updated), str(other), [str(finished)])


def test_an_encoder_without_parameters_is_trained_to_go_with_nothing(updated):
    """What the record says of it, in runs of before as well, is not believed."""
    assert json.loads((updated / "update.json").read_text())["compatible_with"]["image"]
    new = apps.freeze(str(updated))
    assert new.encoders["image"].compatible_with == ()
    assert len(new.encoders["label"].compatible_with) == 1


@pytest.mark.parametrize(("encoders", "names"), [("kept", ["image", "label"]), ("free", [])])
def test_a_kept_encoder_goes_with_what_it_went_with(encoders, names):
    built = built_with()
    params = jax.device_get(jax.jit(built.init)(jax.random.key(0)))
    bundles = [
        graceful.freeze(built, params, {}, {name: [age] for name in ("image", "label")})
        for age in ("oldest", "older")
    ]
    record = record_of(graceful.UpdateOptions(encoders=encoders), bundles, [])
    assert record["compatible_with"] == {name: ["older"] for name in names}


def test_embeddings_are_known_by_the_weights_of_training(tmp_path, monkeypatch):
    """Whatever stands now where the weights were; without embeddings they count nothing."""
    (tmp_path / contents.FILE).write_text(json.dumps({"data.embedder": "as in training"}))
    spec = {"kind": "embedding", "dims": 8, "head_kind": "cosine"}
    for modalities, digest in (({"e": spec}, "as in training"), ({}, "")):
        built = built_with(modalities=modalities)
        params = jax.jit(built.init)(jax.random.key(0))
        module = sys.modules["mmdiffusion_jax.apps.update"]
        monkeypatch.setattr(module, "load", lambda *_, of=(None, built, params), **__: of)
        assert apps.freeze(str(tmp_path)).embedder == digest


def test_an_update_is_compared_by_its_own_options(updated, tmp_path, monkeypatch):
    passed = {}

    def compare(*_, options, **__):
        passed["options"] = options
        raise InterruptedError

    monkeypatch.setattr(graceful, "compare", compare)
    with pytest.raises(InterruptedError):
        apps.compare_update(str(updated), out=str(tmp_path))
    record = json.loads((updated / "update.json").read_text())
    assert passed["options"] == graceful.UpdateOptions(**record["options"])


def test_ordinary_training_does_not_go_on_with_an_update(updated):
    config = apps.load(str(updated))[0]
    with pytest.raises(ValueError, match=r"which holds an update .* go on with launch/update.py"):
        apps.train(config, str(updated))


@pytest.mark.long
def test_the_report(updated, tmp_path):
    out = tmp_path / "out"
    done = launch("compare_update", f"--workdir={updated}", f"--out={out}", "--error_increase=-1")
    assert done.returncode == 1
    assert "error: `successor`: got" in done.stderr
    assert "deployed denoiser, stored latents" in done.stdout
    report = json.loads((out / "report.json").read_text())
    assert report["compatible"] == {"image": True, "label": True}
    assert (out / "report.png").stat().st_size > 10_000
    easy = ("--error_increase=1", "--negative_flips=1", "--denoiser_ratio=99", "--retrieval_loss=1")
    done = launch("compare_update", f"--workdir={updated}", f"--out={out}", *easy)
    assert done.returncode == 0, done.stderr
    # The same examples and draws, so the same report; the table is the one that is written.
    written = json.loads((out / "report.json").read_text())
    assert written == report
    error = report["denoising"]["deployed"]
    assert f"| deployed denoiser, stored latents: squared error | {error:.4f} |" in done.stdout


def test_bad_requests(finished, updated, tmp_path):
    with pytest.raises(ValueError, match="`from`: got nothing"):
        apps.compare_update(str(finished))
    config = apps.load(str(finished))[0]
    with pytest.raises(ValueError, match=r"`config.graceful`: got nothing"):
        apps.update(config, str(tmp_path / "w"), [str(finished)])
    config = config.copy_and_resolve_references()
    config.graceful = {"head": 1.0}
    with pytest.raises(ValueError, match=r"`config.graceful`: got 'head'.*did you mean 'heads'"):
        apps.update(config, str(tmp_path / "w"), [str(finished)])
    with pytest.raises(ValueError, match="`workdir`: got"):
        apps.freeze(str(tmp_path / "nothing"))
    config.graceful = {}
    config.sharding.fsdp = 7
    with pytest.raises(ValueError, match=r"`.*fsdp.*7"):
        apps.update(config, str(tmp_path / "w"), [str(finished)])
    harmed = tmp_path / "harmed"
    shutil.copytree(updated, harmed)
    (harmed / "update.json").write_text("{")
    with pytest.raises(ValueError, match=r"`workdir`: got a damaged .*update.json"):
        apps.freeze(str(harmed))
    assert not (tmp_path / "w").exists()


def test_what_is_scarce_is_drawn_last_as_in_training(updated, finished, tmp_path, monkeypatch):
    config = config_of(updated)
    config.data.kept = ConfigDict({"label": 20})
    monkeypatch.setattr(graceful, "update", lambda *arguments: None)
    apps.update(config, str(tmp_path / "w"), [str(finished)])
    assert experiment.read_config(tmp_path / "w").sampling.unknown == "absent"
