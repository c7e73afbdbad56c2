"""LPIPS: a learned perceptual distance on AlexNet or VGG16 (Zhang et al. 2018), version 0.1.

The weights are the user's: the backbone's file as torchvision saves it, and the `lpips` package's
own file of the five linear layers (`weights/v0.1/alex.pth` or `vgg.pth`).
"""

import dataclasses
import functools
import os
from collections.abc import Sequence
from typing import Any, Self

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mmdiffusion_jax import errors, ranges
from mmdiffusion_jax.metrics.features.batches import in_batches, repeated_grey
from mmdiffusion_jax.metrics.features.perceptual import unit_difference
from mmdiffusion_jax.metrics.features.weights import Tensors, from_torch, identity
from mmdiffusion_jax.tensors import read_tensors

_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)


class AlexNet(nn.Module):
    """The convolutions of torchvision's AlexNet (Krizhevsky 2014), under its own names.

    Example:
        >>> maps = jax.eval_shape(
        ...     AlexNet().init_with_output, jax.random.key(0), jnp.zeros((1, 64, 64, 3))
        ... )[0]
        >>> [each.shape[1:] for each in maps]
        [(15, 15, 64), (7, 7, 192), (3, 3, 384), (3, 3, 256), (3, 3, 256)]
    """

    smallest = 31

    @nn.compact
    def __call__(self, x: jax.Array) -> list[jax.Array]:
        """x (n, height, width, 3), scaled → five maps after ReLU."""
        maps = []
        layers = ((0, 64, 11, 4, 2), (3, 192, 5, 1, 2), (6, 384, 3, 1, 1), (8, 256, 3, 1, 1))
        for index, width, size, stride, padding in (*layers, (10, 256, 3, 1, 1)):
            if index in (3, 6):
                x = nn.max_pool(x, (3, 3), (2, 2))
            convolution = nn.Conv(
                width, (size, size), stride, padding=padding, name=f"features.{index}"
            )
            x = nn.relu(convolution(x))
            maps.append(x)
        return maps


class VGG16(nn.Module):
    """The convolutions of torchvision's VGG16 (Simonyan & Zisserman 2015), under its own names.

    Example:
        >>> maps = jax.eval_shape(
        ...     VGG16().init_with_output, jax.random.key(0), jnp.zeros((1, 32, 32, 3))
        ... )[0]
        >>> [each.shape[1:] for each in maps]
        [(32, 32, 64), (16, 16, 128), (8, 8, 256), (4, 4, 512), (2, 2, 512)]
    """

    smallest = 16

    @nn.compact
    def __call__(self, x: jax.Array) -> list[jax.Array]:
        """x (n, height, width, 3), scaled → five maps, the last ReLU of each stage."""
        maps: list[jax.Array] = []
        index = 0
        for width, depth in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
            if maps:
                x = nn.max_pool(x, (2, 2), (2, 2))
                index += 1
            for _ in range(depth):
                x = nn.relu(nn.Conv(width, (3, 3), padding=1, name=f"features.{index}")(x))
                index += 2
            maps.append(x)
        return maps


_BACKBONES: dict[str, AlexNet | VGG16] = {"alex": AlexNet(), "vgg": VGG16()}


@dataclasses.dataclass(frozen=True)
class LPIPS:
    """A backbone with its weights and those of the five linear layers.

    Attributes:
        backbone: "alex" or "vgg".
        variables: of the backbone.
        linear: five arrays (channels,), the weights of each layer's channels.
    """

    backbone: str
    variables: dict[str, Any]
    linear: Sequence[np.ndarray]

    @classmethod
    def from_files(
        cls, backbone: str, weights: str | os.PathLike[str], linear: str | os.PathLike[str]
    ) -> Self:
        """Reads both files, each `.safetensors`, `.pt` or `.pth`.

        Args:
            backbone: "alex" or "vgg".
            weights: torchvision's state of `alexnet` or `vgg16`.
            linear: the state that the `lpips` package keeps under `weights/v0.1`.

        Raises:
            ValueError: an unknown backbone, files that are missing, or of another network.

        Example:
            >>> LPIPS.from_files("alex", "alexnet.pth", "alex.pth")
            Traceback (most recent call last):
            ValueError: `path`: got alexnet.pth, expected a checkpoint's file; check its name ...
        """
        return cls.from_tensors(backbone, read_tensors(weights), read_tensors(linear))

    @classmethod
    def from_tensors(cls, backbone: str, weights: Tensors, linear: Tensors) -> Self:
        """As `from_files`, of named arrays.

        Raises:
            ValueError: an unknown backbone, or arrays of another network.
        """
        ranges.check_one_of("backbone", backbone, _BACKBONES)
        net = _BACKBONES[backbone]
        side = net.smallest
        maps, shapes = jax.eval_shape(
            net.init_with_output, jax.random.key(0), jnp.zeros((1, side, side, 3))
        )
        layers = {
            f"lin{i}": {"model": {"1": {"kernel": np.zeros((1, 1, each.shape[-1], 1))}}}
            for i, each in enumerate(maps)
        }
        converted = from_torch({"params": layers}, linear)["params"]
        return cls(
            backbone,
            from_torch(shapes, weights),
            [converted[name]["model"]["1"]["kernel"].reshape(-1) for name in layers],
        )

    @functools.cached_property
    def identity(self) -> str:
        """The name of this distance; only figures of equal names can be compared."""
        linear = {f"lin{i}": each for i, each in enumerate(self.linear)}
        return identity(f"lpips-{self.backbone}", "v0.1", {**self.variables, **linear})

    def distance(self, x: np.ndarray, y: np.ndarray, *, batch_size: int = 64) -> np.ndarray:
        """d = Σ_layers mean over places of Σ_c w_c (x̂_c − ŷ_c)² (Zhang et al. 2018, eq. 1).

        Args:
            x: (n, height, width, 3) floats in [−1, 1]; a single channel is repeated.
            y: what they are compared with, of the same shape.
            batch_size: pairs at once.

        Returns:
            (n,).

        Raises:
            ValueError: other shapes or values, or images too small for the backbone.
        """
        x, y = (repeated_grey(np.asarray(each, np.float32)) for each in (x, y))
        side = _BACKBONES[self.backbone].smallest
        if x.shape != y.shape or x.ndim != 4 or x.shape[-1] != 3 or min(x.shape[1:3]) < side:
            raise errors.invalid(
                "x and y",
                f"shapes {x.shape} and {y.shape}",
                f"the same (n, height, width, 3 or 1), sides of {side} or more",
                "enlarge them, or leave the alpha channel out",
            )
        if not (x.size and np.abs(x).max() <= 1 + 1e-4 and np.abs(y).max() <= 1 + 1e-4):
            raise errors.invalid(
                "x and y",
                f"{len(x)} pairs of values outside [−1, 1], or none",
                "one pair or more of finite values in [−1, 1]",
                "divide bytes by 127.5 and subtract 1",
            )
        function = functools.partial(_distance, self.backbone, self.variables, self.linear)
        return in_batches(function, x, y, batch_size=batch_size)


@functools.partial(jax.jit, static_argnums=0)
def _distance(
    backbone: str, variables: Any, linear: Sequence[jax.Array], x: jax.Array, y: jax.Array
) -> jax.Array:
    both = (jnp.concatenate([x, y]) - jnp.array(_SHIFT)) / jnp.array(_SCALE)
    total = jnp.zeros(len(x))
    # Accelerators round products of float32 to fewer bits unless told otherwise.
    with jax.default_matmul_precision("highest"):
        maps: Any = _BACKBONES[backbone].apply(variables, both)
        for each, weights in zip(maps, linear):
            total += (unit_difference(*jnp.split(each, 2)) @ weights).mean(axis=(1, 2))
    return total
