"""Files of weights: what can be read, and what is refused and never run."""

import numpy as np
import pytest
import torch

from mmdiffusion_jax.tensors import read_tensors


def test_every_kind_of_file_is_read(tmp_path):
    from safetensors.torch import save_file

    tensors = {"a.weight": torch.arange(6.0).view(2, 3), "b": torch.ones(2, dtype=torch.bfloat16)}
    save_file(tensors, tmp_path / "plain.safetensors")
    torch.save(tensors, tmp_path / "plain.pt")
    other = {name: value + 1 for name, value in tensors.items()}
    torch.save({"model": other, "ema": tensors, "step": 3}, tmp_path / "training.pth")
    for name in ("plain.safetensors", "plain.pt", "training.pth"):
        read = read_tensors(tmp_path / name)
        assert sorted(read) == ["a.weight", "b"]
        for key, value in read.items():
            assert value.dtype == np.float32
            np.testing.assert_array_equal(value, tensors[key].float().numpy())


class Harmful:
    def __reduce__(self):
        return print, ("run",)


def test_bad_files(tmp_path, capsys, monkeypatch):
    torch.save({"weight": Harmful()}, tmp_path / "code.pt")
    torch.save({"weight": 3}, tmp_path / "number.pt")
    for name in ("short.safetensors", "short.pt", "weights.npz"):
        (tmp_path / name).write_bytes(b"no tensors")
    for name, words in (
        ("code.pt", "expected plain tensors"),
        ("number.pt", "expected tensors by name"),
        ("short.safetensors", "expected plain tensors"),
        ("short.pt", "expected plain tensors"),
        ("weights.npz", "expected a file ending in"),
        ("missing.pt", "expected a checkpoint's file"),
    ):
        with pytest.raises(ValueError, match=rf"`path`: got .*{name}.*{words}"):
            read_tensors(tmp_path / name)
    assert capsys.readouterr().out == ""
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(ValueError, match="install torch"):
        read_tensors(tmp_path / "number.pt")
