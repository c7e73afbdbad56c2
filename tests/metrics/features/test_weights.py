"""Files of weights: what can be read, and what is refused."""

import pickle

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from mmdiffusion_jax.metrics.features.weights import read_tensors


def test_both_kinds_of_files_are_one(tmp_path):
    tensors = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3)}
    save_file(tensors, tmp_path / "a.safetensors")
    torch.save({k: torch.tensor(v) for k, v in tensors.items()}, tmp_path / "a.pth")
    for name in ("a.safetensors", "a.pth"):
        found = read_tensors(tmp_path / name)
        assert list(found) == list(tensors)
        np.testing.assert_array_equal(found["a.weight"], tensors["a.weight"])


class Touches:
    """What a pickle can do: this one writes a file when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_nothing_is_unpickled(tmp_path):
    torch.save({"x": Touches(tmp_path / "written")}, tmp_path / "bad.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Touches(tmp_path / "written")))
    for name in ("bad.pth", "plain.pth"):
        with pytest.raises(ValueError, match=r"`weights`: got .*expected a readable file of named"):
            read_tensors(tmp_path / name)
    assert not (tmp_path / "written").exists()


def test_other_files_are_refused(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"")
    (tmp_path / "a.safetensors").write_bytes(b"nothing")
    for name, words in (
        ("a.npz", r"expected a \.safetensors, \.pt or \.pth file"),
        ("a.safetensors", "expected a readable file"),
        ("b.pth", "expected a file of weights; check the path"),
    ):
        with pytest.raises(ValueError, match=words):
            read_tensors(tmp_path / name)
