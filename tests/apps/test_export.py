"""A trained model as one file: read by the format's own library, and back."""

import chex
import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from mmdiffusion_jax import apps, graceful, training
from tests.apps.small import launch
from tests.experiment.before import in_the_old_form


def test_the_file_holds_the_averaged_parameters(finished, tmp_path):
    out = tmp_path / "model.safetensors"
    done = launch("export", f"--workdir={finished}", f"--out={out}")
    assert done.returncode == 0, done.stderr
    config, _, params = apps.load(str(finished))
    leaves = {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }
    tensors = load_file(out)
    assert tensors.keys() == leaves.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(tensor, leaves[name])
    again, built, read = apps.load_export(out)
    assert again.to_dict() == config.to_dict()
    chex.assert_trees_all_equal(read, jax.device_get(params))
    assert built.model.primary == config.primary

    whole = out.read_bytes()
    for harmed in (whole[:-1], whole[:100], b"", whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:]):
        out.write_bytes(harmed)
        with pytest.raises(ValueError, match=r"`path`: got .*which cannot be read"):
            apps.load_export(out)


def test_an_export_of_before_samplers_and_schedules_had_fields(finished, tmp_path):
    config, built, params = apps.load(str(finished))
    out = tmp_path / "model.safetensors"
    training.write_safetensors(out, params, {"config": in_the_old_form(built.settings)})
    again, read, _ = apps.load_export(out)
    assert (again, read.settings) == (config, built.settings)


def test_a_file_of_something_else(tmp_path):
    file = tmp_path / "latents.safetensors"
    stored = graceful.StoredLatents(graceful.Encoder("a"), np.ones((2, 3)))
    graceful.write_latents(file, stored)
    with pytest.raises(ValueError, match=r"`path`: got .*, which holds no config"):
        apps.load_export(file)


def test_bad_requests(finished, tmp_path):
    for arguments, words in (
        ((f"--out={tmp_path}/model.pt",), "`out`: got"),
        ((f"--out={tmp_path}/m.safetensors", "--checkpoint=best"), "train with config.training"),
    ):
        done = launch("export", f"--workdir={finished}", *arguments)
        assert done.returncode == 1
        assert words in done.stderr
        assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
