"""What all conversions share: every tensor is taken once, and must fit the network."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from mmdiffusion_jax import errors
from mmdiffusion_jax.networks.blocks import stack_layers, unstack_layers
from mmdiffusion_jax.networks.dit import DiT
from mmdiffusion_jax.networks.unet import UNet
from mmdiffusion_jax.networks.uvit import UViT


class Conversion:
    """Fills the parameters of one network from the tensors of a checkpoint.

    PyTorch keeps a linear layer as (out, in) and a convolution as (out, in, height, width); Flax
    keeps (in, out) and (height, width, in, out).
    """

    def __init__(self, tensors: Mapping[str, np.ndarray], net: DiT | UNet | UViT) -> None:
        self.net = net
        self._unused = dict(tensors)
        self._params: dict[str, tuple[np.ndarray, str]] = {}

    def has(self, source: str) -> bool:
        """Whether the checkpoint has this tensor."""
        return source in self._unused

    def take(self, source: str, ndim: int) -> np.ndarray:
        """One tensor of so many axes, as float64; it can be taken only once.

        Raises:
            ValueError: a missing tensor, or one of another number of axes.
        """
        if source not in self._unused:
            raise self.unfit(f"nothing named {source!r}", "a tensor of that name")
        value = np.asarray(self._unused.pop(source), np.float64)
        if value.ndim != ndim:
            raise self.unfit(f"{source!r} of shape {value.shape}", f"{ndim} axes")
        return value

    def put(self, path: str, value: np.ndarray, source: str) -> None:
        """Keeps the value of a parameter and the name of the tensor it came from."""
        self._params[path] = value, source

    def linear(self, path: str, source: str, ndim: int = 2) -> None:
        """A linear layer, or with more axes a convolution over single places."""
        weight = self.take(f"{source}.weight", ndim)
        if weight.shape[2:] != (1,) * (ndim - 2):
            raise self.unfit(f"{source + '.weight'!r} of shape {weight.shape}", "a kernel of 1")
        self._layer(path, source, "kernel", weight.reshape(weight.shape[:2]).T)

    def conv(self, path: str, source: str) -> None:
        """A convolution."""
        weight = self.take(f"{source}.weight", 4)
        self._layer(path, source, "kernel", weight.transpose(2, 3, 1, 0))

    def patches(self, path: str, source: str) -> None:
        """A convolution whose stride is its size, as a linear layer of whole patches."""
        weight = self.take(f"{source}.weight", 4)
        kernel = weight.transpose(2, 3, 1, 0).reshape(-1, len(weight))
        self._layer(path, source, "kernel", kernel)

    def norm(self, path: str, source: str) -> None:
        """A norm with scale and bias."""
        self._layer(path, source, "scale", self.take(f"{source}.weight", 1))

    def attention(
        self, path: str, source: str, out: str, heads: int = 1, bias: bool = True, ndim: int = 2
    ) -> None:
        """Fused query, key and value, split into three layers, and the layer after them.

        Args:
            path: of the block that attends.
            source: the name of the fused layer.
            out: the name of the layer after.
            heads: 1 where all queries come before all keys and values; else each head's query,
                key and value stand together.
            bias: whether the fused layer has one.
            ndim: axes of the weights.
        """
        names = [f"{source}.weight", f"{source}.bias"] if bias else [f"{source}.weight"]
        for name, leaf in zip(names, ("kernel", "bias")):
            value = self.take(name, ndim if leaf == "kernel" else 1)
            if len(value) % (3 * heads):
                raise self.unfit(
                    f"{name!r} of shape {value.shape}", f"rows in {3 * heads} equal parts"
                )
            parts = value.reshape(heads, 3, len(value) // (3 * heads), *value.shape[1:2])
            for index, target in enumerate(("query", "key", "value")):
                part = parts[:, index].reshape(len(value) // 3, *value.shape[1:2])
                self.put(f"{path}/{target}/{leaf}", part.T, name)
        self.linear(f"{path}/out", out, ndim=ndim)

    def time(self, path: str, source: str) -> None:
        """The layer on the sines and cosines of t, for models whose first step is called 0.

        Ours is called 1. With angle φ of one step, cos(a − φ) = cos a cos φ + sin a sin φ and
        sin(a − φ) = sin a cos φ − cos a sin φ, so the step back is a rotation of the kernel.
        """
        self.linear(path, source)
        kernel, name = self._params[f"{path}/kernel"]
        half = len(kernel) // 2
        step = (10000.0 ** -(np.arange(half) / half))[:, None]
        cosine, sine = kernel[:half], kernel[half : 2 * half]
        turned = (
            cosine * np.cos(step) - sine * np.sin(step),
            cosine * np.sin(step) + sine * np.cos(step),
        )
        self.put(f"{path}/kernel", np.concatenate([*turned, kernel[2 * half :]]), name)

    def class_row(self, source: str, label: int | None, else_last: bool = False) -> np.ndarray:
        """One class's row of a table of embeddings; without a label, the last row if `else_last`.

        Raises:
            ValueError: no label where one is needed, or one that the table lacks.
        """
        table = self.take(source, 2)
        if label is None and else_last:
            label = len(table) - 1
        if label is None or not 0 <= label < len(table):
            raise errors.invalid(
                "label",
                label,
                f"a class in 0 … {len(table) - 1}, the rows of {source!r}",
                "choose the class whose embedding the network is to keep",
            )
        return table[label]

    def add_to_bias(self, path: str, row: np.ndarray, source: str) -> None:
        """Adds the embedding of a class, which is the same for all states, to a bias."""
        bias, name = self._params[f"{path}/bias"]
        if bias.shape != row.shape:
            raise self.unfit(f"{source!r} of shape {row.shape}", f"rows of {len(bias)}")
        self.put(f"{path}/bias", bias + row, name)

    def zero_context(self, width: int, num_features: int) -> None:
        """A layer of the context that starts at zero; none for 0 features."""
        if num_features:
            self.put("context/kernel", np.zeros((num_features, width)), "context")
            self.put("context/bias", np.zeros(width), "context")

    def finish(self, num_features: int) -> dict[str, Any]:
        """The parameters in the network's shapes, stacked where it scans its blocks.

        Raises:
            ValueError: a tensor of another shape, or one too few or too many.
        """
        shapes = self._shapes(num_features)
        for path, (value, source) in self._params.items():
            expected = shapes[path].shape if path in shapes else "no such parameter"
            if value.shape != expected:
                raise self.unfit(
                    f"{source!r}, which gives {path} the shape {value.shape}", f"{expected}"
                )
        for path in shapes:
            if path not in self._params:
                raise self.unfit(f"nothing for the parameter {path}", "a tensor for each")
        for source in sorted(self._unused):
            raise self.unfit(f"{source!r}, which nothing takes", "no tensor beside the network's")
        params = {
            path: jnp.asarray(value, jnp.float32) for path, (value, _) in self._params.items()
        }
        tree = traverse_util.unflatten_dict(params, sep="/")
        scans = not isinstance(self.net, UNet) and self.net.scan_layers
        return stack_layers(tree) if scans else tree

    def unfit(self, got: str, expected: str) -> ValueError:
        """The error for a checkpoint that does not go with the network."""
        return errors.invalid(
            "tensors",
            got,
            expected,
            f"take another checkpoint, or other fields of the {type(self.net).__name__}",
        )

    def _shapes(self, num_features: int) -> dict[str, jax.ShapeDtypeStruct]:
        sizes = [(1, *self.net.latent), (1,)] + ([(1, num_features)] if num_features else [])
        arguments = [jax.ShapeDtypeStruct(size, jnp.float32) for size in sizes]

        def init(*arguments: jax.Array) -> Any:
            return unstack_layers(self.net.init(jax.random.key(0), *arguments)["params"])

        return traverse_util.flatten_dict(jax.eval_shape(init, *arguments), sep="/")

    def _layer(self, path: str, source: str, leaf: str, value: np.ndarray) -> None:
        self.put(f"{path}/{leaf}", value, f"{source}.weight")
        self.put(f"{path}/bias", self.take(f"{source}.bias", 1), f"{source}.bias")
