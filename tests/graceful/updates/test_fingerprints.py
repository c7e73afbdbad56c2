"""Stored latents name their encoder, and are never mixed with another's in silence."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from mmdiffusion_jax import graceful, training
from mmdiffusion_jax.graceful import Encoder, StoredLatents

OLD, NEW = Encoder("old"), Encoder("new", compatible_with=("old",))


@pytest.fixture
def stored():
    rows = np.arange(12, dtype=np.float32).reshape(3, 2, 2)
    return StoredLatents(OLD, rows, {"label": np.array([1, 0, 2])})


def test_a_fingerprint_changes_with_anything_and_nothing_else():
    params = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.float32(1)}
    about = {"kind": "label", "num_classes": 10}
    first = graceful.fingerprint(params, about)
    assert first == graceful.fingerprint(dict(reversed(params.items())), dict(about))
    nudged = np.nextafter(params["a"], 9, dtype=np.float32)
    for other in (
        graceful.fingerprint({**params, "a": nudged}, about),
        graceful.fingerprint({**params, "a": params["a"].T}, about),
        graceful.fingerprint({**params, "a": params["a"].astype(np.float64)}, about),
        graceful.fingerprint({"a": params["a"], "c": params["b"]}, about),
        graceful.fingerprint(params, {**about, "num_classes": 11}),
    ):
        assert other != first
    with pytest.raises(ValueError, match=r"`about`: got .*not JSON serializable.*decoder_fields"):
        graceful.fingerprint(params, {**about, "activation": np.tanh})


def test_latents_come_back_for_their_own_encoder_and_a_compatible_one(stored, tmp_path):
    file = tmp_path / "a.safetensors"
    graceful.write_latents(file, stored)
    for reader in (OLD, NEW):
        again = graceful.read_latents(file, reader)
        assert again.encoder == OLD
        np.testing.assert_array_equal(again.latents, stored.latents)
        np.testing.assert_array_equal(again.columns["label"], stored.columns["label"])


def test_another_encoder_is_refused_by_both_names(stored, tmp_path):
    file = tmp_path / "a.safetensors"
    graceful.write_latents(file, stored)
    words = "got latents of encoder old, expected those of encoder stranger or far"
    with pytest.raises(ValueError, match=words):
        graceful.read_latents(file, Encoder("stranger", compatible_with=("far",)))
    assert not Encoder("third", compatible_with=("new",)).goes_with(OLD)


def test_latents_without_a_fingerprint(stored, tmp_path):
    file = tmp_path / "a.safetensors"
    save_file({"latents": stored.latents}, file)
    with pytest.raises(ValueError, match=r"`path`: got .*a\.safetensors"):
        graceful.read_latents(file, OLD)
    graceful.write_latents(file, stored)
    content = file.read_bytes()
    hidden = content.replace(json.dumps("fingerprint").encode(), json.dumps("fingerprinx").encode())
    hidden = hidden.replace(b'\\"fingerprint\\"', b'\\"fingerprinx\\"')
    assert hidden != content
    file.write_bytes(hidden)
    with pytest.raises(ValueError, match="which has no fingerprint, expected latents"):
        graceful.read_latents(file, OLD)
    with pytest.raises(ValueError, match="`fingerprint`: got nothing"):
        Encoder("")


def test_a_damaged_file(stored, tmp_path):
    file = tmp_path / "a.safetensors"
    graceful.write_latents(file, stored)
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"`path`: got .*, which cannot be read"):
        graceful.read_latents(file, OLD)


@pytest.mark.parametrize("column", [np.array(["a", "bc", "d"]), np.array([1, None, 2])])
def test_columns_that_are_no_numbers(stored, column):
    with pytest.raises(ValueError, match=r"`columns\['file'\]`: got dtype .*, expected numbers"):
        StoredLatents(OLD, stored.latents, {"file": column})


def test_scalars_are_no_vectors_of_one(tmp_path):
    one, vector = {"a": np.float32(1)}, {"a": np.ones(1, np.float32)}
    assert training.tree_digest(one) != training.tree_digest(vector)
    for tree in (one, vector):
        training.write_safetensors(tmp_path / "a.safetensors", tree, {})
        read, _ = training.read_safetensors(tmp_path / "a.safetensors")
        assert read["a"].shape == tree["a"].shape


def test_columns_of_another_length(stored):
    with pytest.raises(ValueError, match=r"`columns\['label'\]`: got 2 rows, expected 3"):
        StoredLatents(OLD, stored.latents, {"label": np.arange(2)})
