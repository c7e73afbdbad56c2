"""The Inception V3 of Fréchet Inception distances (Szegedy et al. 2016; Heusel et al. 2017).

It is the network of 2015-12-05 with 1008 classes that TensorFlow published and the community has
converted to PyTorch's tensor names; the weights are the user's file. It differs from torchvision's
network: average pools leave the padding out, the last block pools by maximum, and images are
resized as TensorFlow 1 did.
"""

import dataclasses
import functools
import os
from collections.abc import Callable
from typing import Any, Self

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mmdiffusion_jax import errors
from mmdiffusion_jax.metrics.features.batches import in_batches, repeated_grey
from mmdiffusion_jax.metrics.features.weights import Tensors, from_torch, identity
from mmdiffusion_jax.tensors import read_tensors

_SIDE = 299
_3X3, _1X3, _3X1, _1X7, _7X1 = (3, 3), (1, 3), (3, 1), (1, 7), (7, 1)
_HALVING = (_3X3, 2, False)


@dataclasses.dataclass(frozen=True)
class InceptionFeatures:
    """The network with its weights.

    Attributes:
        variables: nested arrays.
    """

    variables: dict[str, Any]

    @classmethod
    def from_file(cls, weights: str | os.PathLike[str]) -> Self:
        """Reads `pt_inception-2015-12-05-6726825d.pth` or its tensors as `.safetensors`.

        Raises:
            ValueError: a file that is missing, or of another network.

        Example:
            >>> InceptionFeatures.from_file("pt_inception.pth")
            Traceback (most recent call last):
            ValueError: `path`: got pt_inception.pth, expected a checkpoint's file; check ...
        """
        return cls.from_tensors(read_tensors(weights))

    @classmethod
    def from_tensors(cls, weights: Tensors) -> Self:
        """As `from_file`, of named arrays.

        Raises:
            ValueError: arrays of another network.
        """
        shapes = jax.eval_shape(InceptionV3().init, jax.random.key(0), jnp.zeros((1, 75, 75, 3)))
        return cls(from_torch(shapes, weights))

    @functools.cached_property
    def identity(self) -> str:
        """The name of these features; only figures of equal names can be compared."""
        return identity("inception-v3-2015-12-05", "resized as in TensorFlow 1", self.variables)

    def features(self, images: np.ndarray, *, batch_size: int = 32) -> np.ndarray:
        """The last average pool, (n, 2048), of images (n, height, width, 3) uint8.

        A single channel is repeated.

        Raises:
            ValueError: other images.
        """
        return self._run(images, batch_size)[0]

    def probabilities(self, images: np.ndarray, *, batch_size: int = 32) -> np.ndarray:
        """Softmax of the 1008 logits without their bias, as inception scores are computed.

        Raises:
            ValueError: other images than (n, height, width, 3) uint8.
        """
        logits = self._run(images, batch_size)[1]
        return np.asarray(jax.nn.softmax(logits))

    def _run(self, images: np.ndarray, batch_size: int) -> Any:
        images = repeated_grey(np.asarray(images))
        if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8 or not len(images):
            raise errors.invalid(
                "images",
                f"{images.dtype} of shape {images.shape}",
                "uint8 of shape (n, height, width, 3), or of one channel",
                "scale them to bytes, or choose features that take such images",
            )
        function = functools.partial(_apply, self.variables)
        return in_batches(function, images, batch_size=batch_size)


@jax.jit
def _apply(variables: Any, images: jax.Array) -> tuple[jax.Array, jax.Array]:
    # Accelerators round products of float32 to fewer bits unless told otherwise.
    with jax.default_matmul_precision("highest"):
        outputs: Any = InceptionV3().apply(variables, (resized(images, _SIDE) - 128) / 128)
    return outputs


def resized(images: jax.Array, side: int) -> jax.Array:
    """Bilinear, pixel i of the output at i · (old side / new side), as in TensorFlow 1.

    (n, height, width, channels) becomes (n, side, side, channels) float32.

    Example:
        >>> resized(jnp.arange(4.0).reshape(1, 2, 2, 1), 4)[0, :, :, 0].tolist()[0]
        [0.0, 0.5, 1.0, 1.0]
    """
    rows, columns = (jnp.asarray(_interpolation(old, side)) for old in images.shape[1:3])
    return jnp.einsum("ri,nijc,sj->nrsc", rows, images.astype(jnp.float32), columns)


def _interpolation(old: int, new: int) -> np.ndarray:
    """The weights of old places in new ones, (new, old)."""
    places = np.arange(new) * (old / new)
    low = places.astype(np.int64)
    weights = np.zeros((new, old), np.float32)
    weights[np.arange(new), low] = 1 - (places - low)
    np.add.at(weights, (np.arange(new), np.minimum(low + 1, old - 1)), places - low)
    return weights


class _Unit(nn.Module):
    """A convolution without bias, a batch normalisation at rest, ReLU."""

    width: int
    size: tuple[int, int] = (1, 1)
    stride: int = 1
    padded: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        padding = [(side // 2, side // 2) if self.padded else (0, 0) for side in self.size]
        x = nn.Conv(
            self.width, self.size, self.stride, padding=padding, use_bias=False, name="conv"
        )(x)
        return nn.relu(nn.BatchNorm(use_running_average=True, epsilon=1e-3, name="bn")(x))


class _BlockA(nn.Module):
    pool_width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return _join(
            _chain(x, branch1x1=(64,)),
            _chain(x, branch5x5_1=(48,), branch5x5_2=(64, (5, 5))),
            _chain(x, branch3x3dbl_1=(64,), branch3x3dbl_2=(96, _3X3), branch3x3dbl_3=(96, _3X3)),
            _chain(_average(x), branch_pool=(self.pool_width,)),
        )


class _BlockB(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return _join(
            _chain(x, branch3x3=(384, *_HALVING)),
            _chain(
                x, branch3x3dbl_1=(64,), branch3x3dbl_2=(96, _3X3), branch3x3dbl_3=(96, *_HALVING)
            ),
            _halved(x),
        )


class _BlockC(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        width = self.width
        return _join(
            _chain(x, branch1x1=(192,)),
            _chain(x, branch7x7_1=(width,), branch7x7_2=(width, _1X7), branch7x7_3=(192, _7X1)),
            _chain(
                x,
                branch7x7dbl_1=(width,),
                branch7x7dbl_2=(width, _7X1),
                branch7x7dbl_3=(width, _1X7),
                branch7x7dbl_4=(width, _7X1),
                branch7x7dbl_5=(192, _1X7),
            ),
            _chain(_average(x), branch_pool=(192,)),
        )


class _BlockD(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return _join(
            _chain(x, branch3x3_1=(192,), branch3x3_2=(320, *_HALVING)),
            _chain(
                x,
                branch7x7x3_1=(192,),
                branch7x7x3_2=(192, _1X7),
                branch7x7x3_3=(192, _7X1),
                branch7x7x3_4=(192, *_HALVING),
            ),
            _halved(x),
        )


class _BlockE(nn.Module):
    pool: Callable[[jax.Array], jax.Array]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        single = _chain(x, branch3x3_1=(384,))
        double = _chain(x, branch3x3dbl_1=(448,), branch3x3dbl_2=(384, _3X3))
        return _join(
            _chain(x, branch1x1=(320,)),
            _chain(single, branch3x3_2a=(384, _1X3)),
            _chain(single, branch3x3_2b=(384, _3X1)),
            _chain(double, branch3x3dbl_3a=(384, _1X3)),
            _chain(double, branch3x3dbl_3b=(384, _3X1)),
            _chain(self.pool(x), branch_pool=(192,)),
        )


class InceptionV3(nn.Module):
    """The network under its published names.

    Example:
        >>> x = jnp.zeros((1, 75, 75, 3))
        >>> outputs, _ = jax.eval_shape(InceptionV3().init_with_output, jax.random.key(0), x)
        >>> [each.shape for each in outputs]
        [(1, 2048), (1, 1008)]
    """

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """x (n, height, width, 3) in [−1, 1), sides of 75 or more → (features, unbiased logits)."""
        x = _chain(x, Conv2d_1a_3x3=(32, *_HALVING), Conv2d_2a_3x3=(32, _3X3, 1, False))
        x = _halved(_chain(x, Conv2d_2b_3x3=(64, _3X3)))
        x = _halved(_chain(x, Conv2d_3b_1x1=(80,), Conv2d_4a_3x3=(192, _3X3, 1, False)))
        x = _BlockA(32, name="Mixed_5b")(x)
        x = _BlockA(64, name="Mixed_5c")(x)
        x = _BlockA(64, name="Mixed_5d")(x)
        x = _BlockB(name="Mixed_6a")(x)
        x = _BlockC(128, name="Mixed_6b")(x)
        x = _BlockC(160, name="Mixed_6c")(x)
        x = _BlockC(160, name="Mixed_6d")(x)
        x = _BlockC(192, name="Mixed_6e")(x)
        x = _BlockD(name="Mixed_7a")(x)
        x = _BlockE(_average, name="Mixed_7b")(x)
        x = _BlockE(_largest, name="Mixed_7c")(x)
        features = x.mean(axis=(1, 2))
        return features, nn.Dense(1008, use_bias=False, name="fc")(features)


def _chain(x: jax.Array, **units: tuple[Any, ...]) -> jax.Array:
    """Units one after another, each under its name in the module that calls."""
    for name, arguments in units.items():
        x = _Unit(*arguments, name=name)(x)
    return x


def _join(*branches: jax.Array) -> jax.Array:
    return jnp.concatenate(branches, axis=-1)


def _average(x: jax.Array) -> jax.Array:
    return nn.avg_pool(x, _3X3, padding="SAME", count_include_pad=False)


def _largest(x: jax.Array) -> jax.Array:
    return nn.max_pool(x, _3X3, padding="SAME")


def _halved(x: jax.Array) -> jax.Array:
    return nn.max_pool(x, _3X3, (2, 2))
