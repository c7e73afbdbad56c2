"""Weights of feature networks: from PyTorch's names to ours, and the name of a set of weights."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import traverse_util

from mmdiffusion_jax import errors

Tensors = dict[str, np.ndarray]

# The last part of a Flax name, and what PyTorch calls it.
_TORCH_NAMES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}


def from_torch(
    shapes: Mapping[str, Any], tensors: Tensors, *, takes_all: bool = False
) -> dict[str, Any]:
    """Flax variables from tensors that PyTorch's modules of the same names have saved.

    The variable `{"params": {"a": {"b": {"kernel": …}}}}` is the tensor `a.b.weight`, with its axes
    moved from (out, in, rows, columns) to (rows, columns, in, out).

    Args:
        shapes: the variables of the module, or their shapes.
        tensors: {name: array}.
        takes_all: whether tensors that the network lacks are refused, for a network whose names and
            shapes a larger one has too; else they are ignored. Counts of batches, which
            normalisations keep while they are trained, are ignored in any case.

    Raises:
        ValueError: a tensor that is missing, too many, or of another shape.

    Example:
        >>> shapes = {"params": {"conv": {"kernel": np.zeros((3, 5, 2, 4))}}}
        >>> variables = from_torch(shapes, {"conv.weight": np.zeros((4, 2, 3, 5))})
        >>> variables["params"]["conv"]["kernel"].shape
        (3, 5, 2, 4)
    """
    variables = {}
    unused = {name for name in tensors if not name.endswith(".num_batches_tracked")}
    for (kind, *place, leaf), wanted in traverse_util.flatten_dict(shapes).items():
        name = ".".join([*place, _TORCH_NAMES[leaf]])
        if name not in tensors:
            raise errors.invalid(
                "weights", f"no tensor {name!r}", "those of this network", "use its own file"
            )
        tensor, shape = np.asarray(tensors[name], np.float32), tuple(wanted.shape)
        if leaf == "kernel":
            shape = (shape[-1], shape[-2], *shape[:-2])
        if tensor.shape != shape:
            raise errors.invalid(
                f"weights[{name!r}]", f"shape {tensor.shape}", f"{shape}", "use the right file"
            )
        if leaf == "kernel":
            tensor = np.moveaxis(tensor, (0, 1), (-1, -2))
        variables[kind, *place, leaf] = np.ascontiguousarray(tensor)
        unused.discard(name)
    if takes_all and unused:
        raise errors.invalid(
            "weights",
            f"{min(unused)!r}, which this network lacks",
            "the tensors of this network alone",
            "use its own file",
        )
    return traverse_util.unflatten_dict(variables)


def identity(kind: str, details: str, variables: Mapping[str, Any]) -> str:
    """A name for features of this network with these weights: the kind and a digest of the rest.

    Only figures of features with equal identities can be compared. The details are what features
    depend on beside the variables, such as sizes.

    Example:
        >>> one = identity("linear", "", {"kernel": np.ones(2, np.float32)})
        >>> one, one == identity("linear", "", {"kernel": np.zeros(2, np.float32)})
        ('linear-857001a84122', False)
    """
    digest = hashlib.sha256(f"{kind} {details}".encode())
    for name, array in sorted(traverse_util.flatten_dict(variables, sep="/").items()):
        array = np.asarray(array)
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return f"{kind}-{digest.hexdigest()[:12]}"
