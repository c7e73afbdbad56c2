"""What another version has written: one error that says what to do."""

import json
import shutil

import pytest

import mmdiffusion_jax as mm
from mmdiffusion_jax import apps, training


@pytest.fixture
def copy(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "w")


def change(workdir, change_values):
    values = json.loads((workdir / "config.json").read_text())
    change_values(values)
    (workdir / "config.json").write_text(json.dumps(values))


def test_a_key_that_this_version_lacks(copy):
    change(copy, lambda values: values["training"].update(momentum=0.9))
    with pytest.raises(ValueError, match=r"`workdir`: got .*config\.json, which this version") as e:
        mm.load(copy)
    assert "got 'momentum'" in str(e.value)
    assert "use the version that wrote it, or train anew" in str(e.value)


def test_a_network_whose_parameters_are_others_now(copy):
    change(copy, lambda values: values["backbone"].update(width=24))
    with pytest.raises(ValueError, match=r"`workdir`: got .*checkpoints, which this version") as e:
        mm.load(copy)
    assert "float32[" in str(e.value)
    assert "use the version that wrote it" in str(e.value)


@pytest.mark.parametrize("section", [{"momentum": 0.9}, {}])
def test_a_file_of_another_version(finished, tmp_path, section):
    config, _, params = apps.load(str(finished))
    values = config.to_dict()
    values["training"] |= section
    if not section:
        values["backbone"]["width"] = 24
    file = tmp_path / "model.safetensors"
    training.write_safetensors(file, params, {"config": values})
    with pytest.raises(ValueError, match=r"`path`: got .*model\.safetensors, which this version"):
        mm.load(file)


def test_an_older_workdir_that_lacks_keys_is_read(copy, finished):
    change(copy, lambda values: values["sampling"].pop("autoguidance"))
    assert mm.load(copy).config.to_dict() == mm.load(finished).config.to_dict()


def test_nothing_to_open(tmp_path):
    with pytest.raises(ValueError, match=r"`workdir`: got .*expected a folder with a config\.json"):
        mm.load(tmp_path)
    with pytest.raises(ValueError, match=r"`path`: got '.*none', where there is nothing"):
        mm.load(tmp_path / "none")
    (tmp_path / "x.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match=r"`path`: got .*which cannot be read"):
        mm.load(tmp_path / "x.safetensors")
