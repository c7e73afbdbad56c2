"""Bundles of a deployed model: there and back, and everything that is none."""

import hashlib
import shutil

import chex
import jax
import numpy as np
import pytest

from mmdiffusion_jax import experiment, graceful, training
from tests.experiment.before import in_the_old_form
from tests.graceful.small import built_with, source


@pytest.fixture(scope="module")
def built():
    return built_with()


@pytest.fixture(scope="module")
def params(built):
    return jax.device_get(jax.jit(built.init)(jax.random.key(0)))


@pytest.fixture
def bundle(built, params):
    return graceful.freeze(
        built, params, {"label": np.eye(10, dtype=np.float32)}, {"label": ("older",)}
    )


def test_a_bundle_comes_back_whole(bundle, tmp_path):
    file = tmp_path / "deployed.safetensors"
    graceful.write_bundle(file, bundle)
    again = graceful.read_bundle(file)
    assert again.encoders == bundle.encoders
    assert again.encoders["label"].compatible_with == ("older",)
    assert again.built.settings == bundle.built.settings
    chex.assert_trees_all_equal(again.params, bundle.params)
    np.testing.assert_array_equal(again.prototypes["label"], bundle.prototypes["label"])


def test_a_bundle_of_before_samplers_and_schedules_had_fields(bundle, tmp_path, monkeypatch):
    file = tmp_path / "deployed.safetensors"
    old = in_the_old_form(bundle.built.settings)
    with monkeypatch.context() as patched:
        patched.setattr(experiment.Settings, "to_dict", lambda self: old)
        graceful.write_bundle(file, bundle)
    again = graceful.read_bundle(file)
    assert (again.built.settings, again.encoders) == (bundle.built.settings, bundle.encoders)


def changed(params, *path):
    """The same parameters, one leaf of them moved."""
    name, *rest = path
    return {**params, name: changed(params[name], *rest) if rest else params[name] + 1}


def test_a_fingerprint_is_of_the_encoder_and_not_of_the_rest(built, params):
    def prints(params):
        return {
            name: graceful.encoder_of(built, params, name).fingerprint
            for name in ("image", "label")
        }

    first = prints(params)
    assert prints(changed(params, "modalities_label", "logits", "bias")) == first
    other = prints(changed(params, "modalities_label", "table"))
    assert other["image"] == first["image"]
    assert other["label"] != first["label"]
    # Images are encoded without parameters, by their kind and fields alone, and of the fields the
    # likelihood's grey levels are none.
    config = experiment.config_of(built_with(width=32).settings.to_dict())
    config.modalities.image.num_levels = 256
    other = experiment.build(config)
    again = graceful.encoder_of(other, jax.jit(other.init)(jax.random.key(1)), "image").fingerprint
    assert again == first["image"]


def test_another_embedder_is_noticed(tmp_path):
    """By its weights: a copy elsewhere is the same, and a file of before says nothing."""
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(name.encode())
    shutil.copy(tmp_path / "a", tmp_path / "copy")

    def built(embedder):
        spec = {"kind": "embedding", "dims": 8, "head_kind": "cosine"}
        config = experiment.config_of(built_with(modalities={"e": spec}).settings.to_dict())
        config.data.embedder = str(tmp_path / embedder)
        return experiment.build(config)

    one = built("a")
    bundle = graceful.freeze(one, jax.device_get(jax.jit(one.init)(jax.random.key(0))))
    file = tmp_path / "deployed.safetensors"
    graceful.write_bundle(file, bundle)
    (tmp_path / "a").write_bytes(b"replaced")
    again = graceful.read_bundle(file)
    assert again.embedder == bundle.embedder
    for fits in ("copy", "missing"):
        graceful.constraint([again], built(fits), graceful.UpdateOptions())
    words = r"`config.data.embedder`: got weights of digest .* as deployed"
    for other in ("a", "b"):
        with pytest.raises(ValueError, match=words):
            graceful.constraint([again], built(other), graceful.UpdateOptions())
    with pytest.raises(ValueError, match=words):
        graceful.compare(again, graceful.freeze(built("b"), bundle.params), source())
    tensors, about = training.read_safetensors(file)
    del about["embedder"]
    training.write_safetensors(file, tensors, about)
    assert graceful.read_bundle(file).embedder == hashlib.sha256(b"replaced").hexdigest()


def test_a_damaged_file_and_files_of_another_kind(bundle, tmp_path):
    file = tmp_path / "deployed.safetensors"
    graceful.write_bundle(file, bundle)
    whole = file.read_bytes()
    for harmed in (whole[:-1], b"", whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:]):
        file.write_bytes(harmed)
        with pytest.raises(ValueError, match=r"`path`: got .*which cannot be read"):
            graceful.read_bundle(file)
    training.write_safetensors(file, bundle.params, {"config": {}})
    with pytest.raises(ValueError, match="expected a graceful bundle of format 1"):
        graceful.read_bundle(file)
    with pytest.raises(ValueError, match=r"`path`: got .*nothing\.safetensors"):
        graceful.read_bundle(tmp_path / "nothing.safetensors")


def test_a_bundle_of_other_code(bundle, tmp_path, monkeypatch):
    """The same parameters, encoded otherwise: a field that changes what the encoder gives."""
    file = tmp_path / "deployed.safetensors"
    graceful.write_bundle(file, bundle)
    monkeypatch.setattr(graceful.updates.bundle, "fingerprint", lambda params, about: "another")
    with pytest.raises(ValueError, match=r"whose encoder of .image. was .* expected another, as"):
        graceful.read_bundle(file)


def test_parameters_and_names_of_another_experiment(built, params):
    with pytest.raises(ValueError, match=r"`params`: got float32\[.*as its config says"):
        graceful.freeze(built_with(width=32), params)
    with pytest.raises(ValueError, match=r"`prototypes`: got .labels.*did you mean .label"):
        graceful.freeze(built, params, {"labels": np.eye(10)})
    with pytest.raises(ValueError, match="`name`: got 'sound'"):
        graceful.encoder_of(built, params, "sound")
