"""A small convolutional classifier, whose features serve to judge data like its training data."""

import dataclasses
import functools
import json
import os
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from mmdiffusion_jax import errors, files
from mmdiffusion_jax.metrics.features.batches import in_batches
from mmdiffusion_jax.metrics.features.weights import identity

_KIND = "small-classifier"


@dataclasses.dataclass(frozen=True)
class ClassifierSizes:
    """The sizes of a small classifier.

    Attributes:
        image_shape: (height, width, channels).
        num_classes: classes, or labels that may each be present.
        multi_label: whether several labels may be present at once.
        widths: channels of the convolutions, each of which halves the sides.
        num_features: of the penultimate layer.
    """

    image_shape: tuple[int, int, int]
    num_classes: int
    multi_label: bool
    widths: tuple[int, ...]
    num_features: int


class HalvingConvolution(nn.Module):
    """A 3 × 3 convolution of stride 2 to `width` channels, as one matrix product of patches.

    On a CPU its gradient takes half the time of XLA's strided convolution.

    Example:
        >>> net, x = HalvingConvolution(4), jnp.ones((1, 7, 8, 3))
        >>> jax.eval_shape(net.init_with_output, jax.random.key(0), x)[0].shape
        (1, 4, 4, 4)
    """

    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x (n, height, width, channels) → half the sides, rounded up."""
        rows, columns = (-(-side // 2) for side in x.shape[1:3])
        padding = [(side % 2, 1) for side in x.shape[1:3]]
        x = jnp.pad(x, [(0, 0), *padding, (0, 0)])
        patches = [
            x[:, i : i + 2 * rows - 1 : 2, j : j + 2 * columns - 1 : 2]
            for i in range(3)
            for j in range(3)
        ]
        he = nn.initializers.he_normal()
        return nn.Dense(self.width, kernel_init=he)(jnp.concatenate(patches, axis=-1))


class ConvolutionalNetwork(nn.Module):
    """3 × 3 convolutions of stride 2, a hidden layer, and logits.

    Example:
        >>> sizes = ClassifierSizes((8, 8, 1), 3, False, widths=(4, 8), num_features=5)
        >>> net, x = ConvolutionalNetwork(sizes), jnp.zeros((2, 8, 8, 1))
        >>> outputs, _ = jax.eval_shape(net.init_with_output, jax.random.key(0), x)
        >>> logits, features, maps = outputs
        >>> logits.shape, features.shape, [each.shape for each in maps]
        ((2, 3), (2, 5), [(2, 4, 4, 4), (2, 2, 2, 8)])
    """

    sizes: ClassifierSizes

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array, list[jax.Array]]:
        """x (n, height, width, channels) in [−1, 1] → (logits, penultimate features, maps)."""
        maps = []
        for width in self.sizes.widths:
            x = nn.relu(HalvingConvolution(width)(x))
            maps.append(x)
        he = nn.initializers.he_normal()
        x = nn.Dense(self.sizes.num_features, kernel_init=he)(x.reshape(len(x), -1))
        features = nn.relu(x)
        return nn.Dense(self.sizes.num_classes)(features), features, maps


@dataclasses.dataclass(frozen=True)
class SmallClassifier:
    """A trained classifier; its features are the coordinates in which sets can be compared.

    Images are (n, height, width, channels), or without the channel axis where there is one, uint8
    or floats in [−1, 1], as spectrograms are. Every method raises a ValueError for others.

    Attributes:
        sizes: of the network.
        params: its weights, NumPy arrays.
    """

    sizes: ClassifierSizes
    params: dict[str, Any]

    @functools.cached_property
    def identity(self) -> str:
        """The name of these features; only figures of equal names can be compared."""
        return identity(_KIND, str(self.sizes), self.params)

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """(n, classes): of each class, or, with several labels, of each label's presence."""
        logits = self._run("logits", images)
        squash = jax.nn.sigmoid if self.sizes.multi_label else jax.nn.softmax
        return np.asarray(squash(logits))

    def predict(self, images: np.ndarray) -> np.ndarray:
        """The most likely class (n,); with several labels, 0 or 1 for each (n, labels)."""
        logits = self._run("logits", images)
        return (logits > 0).astype(np.int64) if self.sizes.multi_label else logits.argmax(axis=1)

    @property
    def num_features(self) -> int:
        """How many features an image has."""
        return self.sizes.num_features

    def features(self, images: np.ndarray) -> np.ndarray:
        """The penultimate layer, (n, features)."""
        return self._run("features", images)

    def feature_maps(self, images: np.ndarray) -> list[np.ndarray]:
        """The output of each convolution, (n, height/2ᵏ, width/2ᵏ, channels)."""
        return self._run("maps", images)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes weights and sizes to a `.safetensors` file."""
        from safetensors.numpy import save

        flat = traverse_util.flatten_dict(self.params, sep="/")
        metadata = {"kind": _KIND, "sizes": json.dumps(dataclasses.asdict(self.sizes))}
        with files.replacing(path) as stream:
            stream.write(save({name: np.asarray(x) for name, x in flat.items()}, metadata))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "SmallClassifier":
        """Reads what `save` has written.

        Raises:
            ValueError: no such file, or a file of something else.

        Example:
            >>> SmallClassifier.load("missing.safetensors")
            Traceback (most recent call last):
            ValueError: `path`: got 'missing.safetensors', where there is no file, expected ...
        """
        import safetensors

        try:
            with (
                files.local_copy(path) as copy,
                safetensors.safe_open(copy, framework="numpy") as file,
            ):
                metadata = file.metadata() or {}
                if metadata.get("kind") != _KIND:
                    raise ValueError("a file of something else")
                flat = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                values = json.loads(metadata.get("sizes", ""))
        except (OSError, ValueError, safetensors.SafetensorError) as error:
            missing = isinstance(error, FileNotFoundError)
            raise errors.invalid(
                "path",
                f"{str(path)!r}" + (", where there is no file" if missing else f" ({error})"),
                "the file of a small classifier",
                "fit one with launch/fit_features.py",
            ) from error
        lists = {name: tuple(values[name]) for name in ("image_shape", "widths")}
        return cls(
            ClassifierSizes(**{**values, **lists}), traverse_util.unflatten_dict(flat, sep="/")
        )

    def _run(self, layer: str, images: np.ndarray) -> Any:
        images = as_images(images, self.sizes.image_shape)
        return in_batches(functools.partial(_apply, self.sizes, layer, self.params), images)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _apply(sizes: ClassifierSizes, layer: str, params: Any, images: jax.Array) -> Any:
    # Accelerators round products of float32 to fewer bits unless told otherwise.
    with jax.default_matmul_precision("highest"):
        outputs = ConvolutionalNetwork(sizes).apply({"params": params}, scaled(images))
    return dict(zip(("logits", "features", "maps"), outputs))[layer]


def as_images(images: np.ndarray, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """Images (n, height, width[, channels]), uint8 or floats in [−1, 1], with a channel axis.

    `shape` is the (height, width, channels) that each must have, or None for any.

    Raises:
        ValueError: no images, another shape, another type, or floats outside [−1, 1].

    Example:
        >>> as_images(np.zeros((5, 8, 9), np.uint8)).shape
        (5, 8, 9, 1)
    """
    images = np.asarray(images)
    full = images[..., None] if images.ndim == 3 else images
    if full.ndim != 4 or not full.size or (shape is not None and full.shape[1:] != tuple(shape)):
        raise errors.invalid(
            "images",
            f"shape {images.shape}",
            f"(n, {', '.join(map(str, shape or ('height', 'width', 'channels')))})",
            "reshape them, or use features of other images",
        )
    if full.dtype == np.uint8:
        return full
    if full.dtype.kind != "f" or not np.all(np.abs(full) <= 1 + 1e-4):
        raise errors.invalid(
            "images",
            f"{full.dtype} values in {full.min()} … {full.max()}",
            "uint8, or finite floats in [−1, 1]",
            "scale them",
        )
    return full.astype(np.float32)


def scaled(images: jax.Array) -> jax.Array:
    """Bytes to [−1, 1], floats as they are.

    Example:
        >>> scaled(jnp.array([0, 255], jnp.uint8)).tolist()
        [-1.0, 1.0]
    """
    if images.dtype == jnp.uint8:
        return images.astype(jnp.float32) / 127.5 - 1
    return images
