"""Where results go is tried first; `~` is the home folder; URLs are of buckets, and not of data."""

import numpy as np
import pytest
from flax import traverse_util

from benchmarks.graceful_worlds import graceful_benchmark
from benchmarks.speed import conduct
from configs import graceful_update
from configs.smoke import get_config
from mmdiffusion_jax import apps, experiment
from mmdiffusion_jax.apps.sweep import SweepRun
from tests.apps.small import ROOT

SMOKE = str(ROOT / "configs/smoke.py")


def smoke():
    return get_config()


def fit_features(path, out="f.safetensors", **places):
    return apps.fit_features(apps.LabelledImages(path, **places), out)


def a_sweep(workdir):
    return apps.train_sweep([SweepRun("a", {}, smoke(), workdir / "a", ())], ["false"])


# Inputs are missing everywhere: an error about the output comes before they are looked at.
WRITERS = {
    "sample": ("out", lambda out: apps.sample("missing", str(out))),
    "compare_samplers": (
        "out",
        lambda out: apps.compare_samplers(["missing"], str(out), ["ddim"], [2]),
    ),
    "judge_by_use": ("out", lambda out: apps.judge_by_use("missing", out=str(out))),
    "compare_update": ("out", lambda out: apps.compare_update("missing", out=str(out))),
    "prepare": ("out", lambda out: apps.prepare("missing", str(out))),
    "compare_arms": ("workdir", lambda out: apps.compare_arms(smoke(), str(out), ["multi"], 1)),
    "train": ("workdir", lambda out: apps.train(smoke(), str(out))),
    "update": ("workdir", lambda out: apps.update(successor(), str(out), ["missing"])),
    "sweep": ("workdir", a_sweep),
    "collect_sweep": ("workdir", lambda out: apps.collect_sweep([], str(out))),
    "benchmark": ("out", lambda out: conduct.run([], True, str(out))),
    "report": ("out", lambda out: apps.report("missing", str(out / "r.html"))),
    "export": ("out", lambda out: apps.export("missing", out / "m.safetensors")),
    "fit_features": ("out", lambda out: fit_features("missing", str(out / "f.safetensors"))),
    "graceful_benchmark": ("out", lambda out: graceful_benchmark(2, 0, str(out / "f.json"))),
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
    "sample workdir": ("workdir", lambda path: apps.sample(path)),
    "sample out": ("out", lambda path: apps.sample("missing", path)),
    "evaluate": ("workdir", lambda path: apps.evaluate([path])),
    "report workdir": ("workdir", lambda path: apps.report(path)),
    "report out": ("out", lambda path: apps.report("missing", path)),
    "export workdir": ("workdir", lambda path: apps.export(path, "m.safetensors")),
    "export out": ("out", lambda path: apps.export("missing", path)),
    "load_export": ("path", lambda path: apps.load_export(path)),
    "compare_samplers": (
        "workdir",
        lambda path: apps.compare_samplers([path], "out", ["ddim"], [2]),
    ),
    "judge_by_use": ("workdir", lambda path: apps.judge_by_use(path)),
    "judge_by_use out": ("out", lambda path: apps.judge_by_use("missing", out=path)),
    "compare_update": ("workdir", lambda path: apps.compare_update(path)),
    "train": ("workdir", lambda path: apps.train(smoke(), path)),
    "update": ("workdir", lambda path: apps.update(successor(), path, ["missing"])),
    "update from": ("from", lambda path: apps.update(successor(), "w", [path])),
    "update ensemble": ("ensemble", lambda path: apps.update(successor(), "w", [], [path])),
    "compare_arms": ("workdir", lambda path: apps.compare_arms(smoke(), path, ["multi"], 1)),
    "expand_sweep": ("workdir", lambda path: apps.expand_sweep(SMOKE, path)),
    "prepare": ("out", lambda path: apps.prepare("missing", path)),
    "fit_features data": ("data", lambda path: fit_features(path)),
    "fit_features test": ("test", lambda path: fit_features("missing", test=path)),
    "fit_features path": (
        "path",
        lambda path: apps.fit_features(
            apps.LabelledImages("fashion_mnist", folder=path), "f.safetensors"
        ),
    ),
    "graceful_benchmark": ("out", lambda path: graceful_benchmark(2, 0, path)),
    "benchmark": ("out", lambda path: conduct.run([], True, path)),
}


def successor():
    return graceful_update.get_config()


# Data lie on disks.
OF_DATA = ("prepare", "fit_features data", "fit_features test", "fit_features path")


@pytest.mark.usefixtures("nothing_is_read")
@pytest.mark.parametrize("name", PATHS)
def test_a_url_of_no_bucket_is_refused_at_once(name, monkeypatch, tmp_path):
    argument, call = PATHS[name]
    monkeypatch.chdir(tmp_path)
    url = "gs://bucket/x" if name in OF_DATA else "hdfs://host/x"
    with pytest.raises(ValueError, match=f"^`{argument}`: got '{url}.*', expected a path"):
        call(url)
    assert list(tmp_path.iterdir()) == []


def test_home_is_expanded_in_every_path(finished, monkeypatch, tmp_path):
    (tmp_path / "w").symlink_to(finished)
    np.save(tmp_path / "labels.npy", np.array([3, 1], np.int32))
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = apps.sample("~/w", "~/out", apps.Request(given=["label@~/labels.npy"]), num_steps=2)
    assert folder == tmp_path / "out"
    with np.load(folder / "samples-00000-of-00001.npz") as samples:
        assert samples["label"].tolist() == [3, 1]
    assert apps.export("~/w", "~/m.safetensors") == tmp_path / "m.safetensors"
    assert apps.load_export("~/m.safetensors")[0].latent == (8, 8, 1)
    (sweep, *_) = apps.expand_sweep(SMOKE, "~/sweep")
    assert sweep.workdir.parent == tmp_path / "sweep"


KEYS = ("data.folder", "data.path", "data.train", "data.test", "data.embedder")
KEYS += ("evaluation.features", "init_from")


@pytest.mark.parametrize("key", KEYS)
def test_paths_in_a_config(key, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    config = smoke().lock()
    config.update_from_flattened_dict({key: "~/x.npz"})
    values = traverse_util.flatten_dict(experiment.local_paths(config).to_dict(), sep=".")
    assert values[key] == str(tmp_path / "x.npz")
    scheme = "hdfs" if key == "init_from" else "gs"
    config.update_from_flattened_dict({key: f"{scheme}://bucket/x.npz"})
    for read in (
        lambda: experiment.local_paths(config),
        lambda: apps.train(config, str(tmp_path / "w")),
        lambda: apps.compare_arms(config, str(tmp_path / "w"), ["multi"], 1),
        lambda: apps.expand_sweep(SMOKE, "w", [f"--config.{key}={scheme}://bucket/x.npz"]),
    ):
        with pytest.raises(ValueError, match=f"`config.{key}`: got '{scheme}://bucket/x.npz'"):
            read()
    assert list(tmp_path.iterdir()) == []


def test_files_of_lpips_and_names_that_are_no_paths(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    config = smoke()
    assert experiment.local_paths(config).to_dict() == config.to_dict()
    config.evaluation.lpips = ("alex", "~/a.pth", "/b.pth")
    expected = ("alex", f"{tmp_path}/a.pth", "/b.pth")
    assert experiment.local_paths(config).evaluation.lpips == expected
