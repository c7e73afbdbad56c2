"""Where results go is tried first; `~` is the home folder, and a URL is refused, everywhere."""

import runpy

import numpy as np
import pytest

from mmdiffusion_jax import experiment, run
from mmdiffusion_jax.run.sweep import SweepRun
from tests.benchmarks import conduct
from tests.run.small import ROOT

SMOKE = str(ROOT / "configs/smoke.py")


def smoke():
    return runpy.run_path(SMOKE)["get_config"]()


def a_sweep(workdir):
    return run.train_sweep([SweepRun("a", {}, smoke(), workdir / "a", ())], ["false"])


# Inputs are missing everywhere: an error about the output comes before they are looked at.
WRITERS = {
    "sample": ("out", lambda out: run.sample("missing", str(out))),
    "compare_samplers": ("out", lambda out: run.compare_samplers(["missing"], str(out), [], [])),
    "compare_update": ("out", lambda out: run.compare_update("missing", out=str(out))),
    "prepare": ("out", lambda out: run.prepare("missing", str(out))),
    "compare_arms": ("workdir", lambda out: run.compare_arms(smoke(), str(out), ["multi"], 1)),
    "train": ("workdir", lambda out: run.train(smoke(), str(out))),
    "update": ("workdir", lambda out: run.update(successor(), str(out), ["missing"])),
    "sweep": ("workdir", a_sweep),
    "collect_sweep": ("workdir", lambda out: run.collect_sweep([], str(out))),
    "benchmark": ("out", lambda out: conduct.run([], True, str(out))),
    "export": ("out", lambda out: run.export("missing", out / "m.safetensors")),
    "fit_features": ("out", lambda out: run.fit_features("missing", str(out / "f.safetensors"))),
    "graceful_benchmark": ("out", lambda out: run.graceful_benchmark(2, 0, str(out / "f.json"))),
}


@pytest.fixture
def nothing_is_read(monkeypatch):
    def fail(*_, **__):
        raise AssertionError("data were opened")

    monkeypatch.setattr(experiment, "open_data", fail)


@pytest.mark.usefixtures("nothing_is_read")
@pytest.mark.parametrize("name", WRITERS)
def test_a_place_that_cannot_be_written_is_found_out_first(name, tmp_path):
    (tmp_path / "file").write_text("")
    argument, call = WRITERS[name]
    with pytest.raises(ValueError, match=f"^`{argument}`: got {tmp_path}/file.*is not a folder"):
        call(tmp_path / "file" / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


PATHS = {
    "sample workdir": ("workdir", lambda path: run.sample(path)),
    "sample out": ("out", lambda path: run.sample("missing", path)),
    "evaluate": ("workdir", lambda path: run.evaluate([path])),
    "export workdir": ("workdir", lambda path: run.export(path, "m.safetensors")),
    "export out": ("out", lambda path: run.export("missing", path)),
    "load_export": ("path", lambda path: run.load_export(path)),
    "compare_samplers": ("workdir", lambda path: run.compare_samplers([path], "out", [], [])),
    "compare_update": ("workdir", lambda path: run.compare_update(path)),
    "train": ("workdir", lambda path: run.train(smoke(), path)),
    "update": ("workdir", lambda path: run.update(successor(), path, ["missing"])),
    "update from": ("from", lambda path: run.update(successor(), "w", [path])),
    "update ensemble": ("ensemble", lambda path: run.update(successor(), "w", [], [path])),
    "compare_arms": ("workdir", lambda path: run.compare_arms(smoke(), path, ["multi"], 1)),
    "expand_sweep": ("workdir", lambda path: run.expand_sweep(SMOKE, path)),
    "prepare": ("out", lambda path: run.prepare("missing", path)),
    "fit_features data": ("data", lambda path: run.fit_features(path, "f.safetensors")),
    "fit_features test": (
        "test",
        lambda path: run.fit_features("missing", "f.safetensors", test=path),
    ),
    "fit_features path": (
        "path",
        lambda path: run.fit_features("fashion_mnist", "f.safetensors", folder=path),
    ),
    "graceful_benchmark": ("out", lambda path: run.graceful_benchmark(2, 0, path)),
    "benchmark": ("out", lambda path: conduct.run([], True, path)),
}


def successor():
    return runpy.run_path(str(ROOT / "configs/graceful_update.py"))["get_config"]()


@pytest.mark.usefixtures("nothing_is_read")
@pytest.mark.parametrize("name", PATHS)
def test_a_url_is_refused_at_once(name, monkeypatch, tmp_path):
    argument, call = PATHS[name]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=f"^`{argument}`: got 'gs://bucket/x.*', expected a path"):
        call("gs://bucket/x")
    assert list(tmp_path.iterdir()) == []


def test_home_is_expanded_in_every_path(finished, monkeypatch, tmp_path):
    (tmp_path / "w").symlink_to(finished)
    np.save(tmp_path / "labels.npy", np.array([3, 1], np.int32))
    monkeypatch.setenv("HOME", str(tmp_path))
    made = run.sample("~/w", "~/out", given=["label@~/labels.npy"], num_steps=2)
    assert made == tmp_path / "out"
    with np.load(made / "samples-00000-of-00001.npz") as samples:
        assert samples["label"].tolist() == [3, 1]
    assert run.export("~/w", "~/m.safetensors") == tmp_path / "m.safetensors"
    assert run.load_export("~/m.safetensors")[0].latent == (8, 8, 1)
    (sweep, *_) = run.expand_sweep(SMOKE, "~/sweep")
    assert sweep.workdir.parent == tmp_path / "sweep"


KEYS = ("data.folder", "data.path", "data.train", "data.test", "data.embedder")
KEYS += ("evaluation.features",)


@pytest.mark.parametrize("key", KEYS)
def test_paths_in_a_config(key, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    config = smoke().lock()
    section, _, name = key.partition(".")
    config[section][name] = "~/x.npz"
    assert experiment.local_paths(config)[section][name] == str(tmp_path / "x.npz")
    config[section][name] = "gs://bucket/x.npz"
    for read in (
        lambda: experiment.local_paths(config),
        lambda: run.train(config, str(tmp_path / "w")),
        lambda: run.compare_arms(config, str(tmp_path / "w"), ["multi"], 1),
        lambda: run.expand_sweep(SMOKE, "w", [f"--config.{key}=gs://bucket/x.npz"]),
    ):
        with pytest.raises(ValueError, match=f"`config.{key}`: got 'gs://bucket/x.npz'"):
            read()
    assert list(tmp_path.iterdir()) == []


def test_files_of_lpips_and_names_that_are_no_paths(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    config = smoke()
    assert experiment.local_paths(config).to_dict() == config.to_dict()
    config.evaluation.lpips = ("alex", "~/a.pth", "/b.pth")
    expected = ("alex", f"{tmp_path}/a.pth", "/b.pth")
    assert experiment.local_paths(config).evaluation.lpips == expected
