"""Writes parameters as `.safetensors`, which any framework reads, and reads them back."""

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax import traverse_util
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from mmdiffusion_jax import errors, files


def write_safetensors(
    path: str | os.PathLike[str], params: Mapping[str, Any], about: Mapping[str, Any]
) -> None:
    """Writes parameters as tensors named by their path, all of the file or nothing.

    Args:
        path: the file, which is replaced; its folder must be there.
        params: nested dictionaries of arrays; a tensor's name is its keys joined by "/".
        about: further facts, in JSON's types; they go into the file's metadata.

    Raises:
        ValueError: a key with a "/" in it.
        OSError: the file cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = f"{folder}/model.safetensors"
        ...     write_safetensors(file, {"a": {"kernel": np.ones((2, 3))}}, {"step": 5})
        ...     params, about = read_safetensors(file)
        >>> params["a"]["kernel"].shape, about
        ((2, 3), {'step': 5})
    """
    tensors = {}
    for keys, leaf in traverse_util.flatten_dict(params).items():
        if any("/" in key for key in keys):
            raise errors.invalid("params", f"the key {keys!r}", "keys without '/'", "rename it")
        tensors["/".join(keys)] = np.asarray(jax.device_get(leaf), order="C")
    # The format has no checksum of its own.
    metadata = {"about": json.dumps(about), "sha256": tree_digest(tensors)}
    with files.replacing(path) as stream:
        stream.write(save(tensors, metadata))


def read_safetensors(
    path: str | os.PathLike[str], argument: str = "path"
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads a file that `write_safetensors` wrote: (parameters, further facts).

    Args:
        path: the file.
        argument: what errors call it.

    Raises:
        ValueError: a file that is missing, damaged, or not written by `write_safetensors`.
    """
    try:
        with files.local_copy(path) as file, safe_open(file, "numpy") as opened:
            metadata = opened.metadata() or {}
            names = list(opened.keys())
            tensors = {name: opened.get_tensor(name) for name in names}
        about = json.loads(metadata["about"])
        if tree_digest(tensors) != metadata["sha256"]:
            raise ValueError("other contents than were written")
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise errors.invalid(
            argument,
            f"{os.fspath(path)!r}, which cannot be read ({type(error).__name__}: {error})",
            "a .safetensors file of exported parameters",
            "export it anew",
        ) from error
    return traverse_util.unflatten_dict(tensors, sep="/"), about


def tree_digest(tree: Any) -> str:
    """SHA-256 of a pytree of arrays, on devices or the host.

    Returns:
        64 hexadecimal digits; other names, shapes, dtypes or bits give others.

    Example:
        >>> tree_digest({"a": np.ones(2)}) == tree_digest({"b": np.ones(2)})
        False
    """
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.asarray(jax.device_get(leaf), order="C")
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        # A view: a copy of an array that is mapped from a file might not fit into memory.
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
