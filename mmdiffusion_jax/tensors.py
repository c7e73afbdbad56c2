"""Reads the tensors of a PyTorch checkpoint."""

import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from mmdiffusion_jax import errors

# Where training scripts put the weights beside other things; the moving average comes first.
_SECTIONS = ("ema", "model_ema", "state_dict", "model")


def read_tensors(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The tensors of a checkpoint's file by their names, as float32.

    A `.safetensors` file needs nothing else. A `.pt`, `.pth` or `.bin` file needs PyTorch, which
    reads plain tensors from it and runs no code that the file may hold. Where such a file has
    sections, the moving average of the weights is taken if there is one.

    Raises:
        ValueError: no such file, another suffix, a damaged file, one that holds more than
            tensors, or PyTorch needed but not there.

    Example:
        >>> import tempfile
        >>> from safetensors.numpy import save_file
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_file({"bias": np.zeros(3, np.float16)}, f"{folder}/model.safetensors")
        ...     tensors = read_tensors(f"{folder}/model.safetensors")
        >>> tensors["bias"].dtype, tensors["bias"].shape
        (dtype('float32'), (3,))
    """
    file = Path(path)
    if not file.is_file():
        raise errors.invalid("path", str(file), "a checkpoint's file", "check its name and folder")
    if file.suffix == ".safetensors":
        try:
            tensors: Mapping[str, Any] = load_file(file)
        except SafetensorError as error:
            raise _damaged(file, error) from error
    elif file.suffix in (".pt", ".pth", ".bin"):
        tensors = _read_torch(file)
    else:
        raise errors.invalid(
            "path",
            str(file),
            "a file ending in .safetensors, .pt, .pth or .bin",
            "rename or convert it",
        )
    return {name: np.asarray(value, np.float32) for name, value in tensors.items()}


def _read_torch(file: Path) -> dict[str, Any]:
    try:
        torch = importlib.import_module("torch")
    except ImportError as error:
        raise errors.invalid(
            "path",
            str(file),
            "a .safetensors file, as PyTorch is not installed",
            "install torch, or convert the file",
        ) from error
    try:
        values = torch.load(file, map_location="cpu", weights_only=True)
    # PyTorch names neither the errors of its reader nor those of its zip files.
    except Exception as error:
        raise _damaged(file, error) from error
    for section in _SECTIONS:
        if isinstance(values, Mapping) and isinstance(values.get(section), Mapping):
            values = values[section]
    if not isinstance(values, Mapping) or not all(map(torch.is_tensor, values.values())):
        raise errors.invalid("path", str(file), "tensors by name", "save a state_dict alone")
    return {name: value.float().numpy() for name, value in values.items()}


def _damaged(file: Path, error: Exception) -> ValueError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return errors.invalid(
        "path", f"{file}, which cannot be read ({reason})", "plain tensors", "fetch it anew"
    )
