"""Bad flags end in one line and touch nothing."""

import json
import shutil

import numpy as np
import pytest

from configs import smoke
from mmdiffusion_jax import apps, experiment
from tests.apps.small import SMALL, launch

REQUEST = ("given", "num_samples", "keep", "begin", "seed")


@pytest.mark.parametrize(
    ("script", "arguments", "words"),
    [
        ("train", ["--config.seed=5"], "holds an experiment that differs in seed"),
        ("train", ["--config.training.num_step=5"], "did you mean 'num_steps'"),
        ("sample", ["--weaker=nowhere"], "expected a folder with a config.json"),
        ("sample", ["--guidance=label"], "`guidance`: got 'label', expected name:scale"),
    ],
)
def test_bad_flags_end_in_one_line_and_touch_nothing(finished, tmp_path, script, arguments, words):
    def listing():
        return sorted((p, p.stat().st_mtime_ns) for p in finished.rglob("*") if p.is_file())

    before = listing()
    common = [f"--workdir={finished}"]
    if script == "train":
        common += [*SMALL, f"--config.data.folder={finished.parent}"]
    else:
        common += [f"--out={tmp_path / 'out'}"]
    done = launch(script, *common, *arguments)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: "), done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert listing() == before
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"given": ["labl=3"]}, "did you mean 'label'"),
        ({"given": ["label=10"]}, "got label 10, expected labels in 0 … 9"),
        ({"given": ["label=x"]}, "expected a whole number; for a file write label@x"),
        ({"given": ["label"]}, "`given`: got 'label', expected name=value or name@FILE"),
        ({"given": ["label=1", "label=2"]}, "`given`: got 'label' twice"),
        ({"given": ["image@missing.npz"]}, r"missing\.npz"),
        ({"given": ["image@missing.npy"]}, r"missing\.npy"),
        ({"keep": ["image"]}, "`keep`: got 'image', expected name@FILE"),
        ({"keep": ["imge@x.npz"]}, "`keep`: got 'imge'.*did you mean 'image'"),
        ({"keep": ["image@missing.npz"]}, r"missing\.npz"),
        ({"begin": ["image@x.npz"]}, "`begin`: got 'image@x.npz', expected name:level@FILE"),
        ({"begin": ["image:²@x.npz"]}, "`begin`: got 'image:²@x.npz', expected name:level@FILE"),
        ({"num_samples": 0}, "`num_samples`: got 0"),
        ({"seed": 2**40}, "`seed`: got 1099511627776, expected 0 … 4294967295"),
        ({"seed": -1}, "`seed`: got -1, expected 0 … 4294967295"),
        ({"shard_size": 0}, "`shard_size`: got 0"),
        ({"sampler": "dpm_solver"}, "did you mean 'dpm_solver_pp'"),
        ({"num_steps": 9}, "expected a whole number in 1 … 8"),
        ({"guidance": {"labl": 2.0}}, "did you mean 'label'"),
        ({"given": ["label=3"], "decoder_guidance": {"image": 2.0}}, "got 'image'"),
        ({"decoder_guidance": {"label": 1.0}}, "`decoder_guidance`: got 'label', whose value is"),
        ({"grids": "karras"}, "did you mean 'grid'"),
    ],
)
def test_bad_requests_leave_no_folder(finished, tmp_path, options, words):
    asked = {name: x for name, x in options.items() if name in REQUEST}
    others = {name: x for name, x in options.items() if name not in asked}
    with pytest.raises(ValueError, match=words):
        apps.sample(str(finished), str(tmp_path / "out"), apps.Request(**asked), **others)
    assert not (tmp_path / "out").exists()


def test_the_values_of_a_file_are_not_their_own_mask(finished, tmp_path):
    np.save(tmp_path / "values.npy", np.zeros((2, 8, 8, 1), np.uint8))
    request = apps.Request(keep=[f"image@{tmp_path / 'values.npy'}"])
    with pytest.raises(ValueError, match=r"`keep`: got .*\.npy', which has no image_keep"):
        apps.sample(str(finished), str(tmp_path / "out"), request)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("value", [0.5, np.nan, -1.0])
def test_a_mask_that_says_neither_yes_nor_no(finished, tmp_path, value):
    images = np.zeros((2, 8, 8, 1), np.uint8)
    np.savez(tmp_path / "soft.npz", image=images, image_keep=np.full(images.shape, value))
    request = apps.Request(keep=[f"image@{tmp_path / 'soft.npz'}"])
    with pytest.raises(ValueError, match="`keep image`: got image_keep of float64, with values"):
        apps.sample(str(finished), str(tmp_path / "out"), request)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("samplers", "steps", "words"),
    [
        ([], [2], "`samplers`: got none"),
        (["ddim", "ddim"], [2], "`samplers`: got 'ddim' twice"),
        (["ddim"], [2, 2], "`steps`: got 2 twice"),
    ],
)
def test_names_of_samplers_and_states(finished, tmp_path, samplers, steps, words):
    with pytest.raises(ValueError, match=words):
        apps.compare_samplers([str(finished)], str(tmp_path / "out"), samplers, steps)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("section", "key", "value"), [("process", "num_steps", 7), ("evaluation", "num_samples", 50)]
)
def test_workdirs_that_are_judged_differently_have_no_means(
    finished, tmp_path, section, key, value
):
    """The folder of another run, by its config; nothing is drawn for either."""
    other = tmp_path / "other"
    shutil.copytree(finished, other)
    config = json.loads((other / "config.json").read_text())
    expected = config[section][key]
    config[section][key] = value
    (other / "config.json").write_text(json.dumps(config))
    words = f"`workdir`: got .*other with {section}.{key} {value}, expected {expected}, as"
    with pytest.raises(ValueError, match=words):
        apps.compare_samplers([str(finished), str(other)], str(tmp_path / "out"), ["ddim"], [2])
    assert not (tmp_path / "out").exists()


def test_a_profile_of_steps_that_are_not_taken(tmp_path):
    config = smoke.get_config()
    with pytest.raises(ValueError, match="`profile`: got step 101 first, expected steps in 1 …"):
        apps.train(config, str(tmp_path / "w"), profile=(101, 110))
    assert not (tmp_path / "w").exists()


def test_states_below_one_are_not_compared(finished, tmp_path):
    with pytest.raises(ValueError, match="got 0, expected 1 or more"):
        apps.compare_samplers([str(finished)], str(tmp_path / "out"), ["ddim"], [0])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", ["sampler", "num_steps", "eta"])
def test_what_is_compared_cannot_be_fixed(finished, tmp_path, option):
    with pytest.raises(ValueError, match=f"`{option}`: got 1, expected nothing, as all are"):
        apps.compare_samplers([str(finished)], str(tmp_path / "out"), ["ddim"], [2], **{option: 1})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("change", ["process.schedule=cosin", "loss.timesteps=unifrm"])
def test_unknown_names_in_a_config(change):
    config = smoke.get_config()
    path, _, value = change.partition("=")
    section, _, key = path.partition(".")
    config[section][key] = value
    with pytest.raises(ValueError, match=f"`config.{path}`: got '{value}'.*did you mean"):
        experiment.build(config)
