"""Training a small classifier on the data at hand, within minutes on a CPU."""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mmdiffusion_jax import errors, ranges
from mmdiffusion_jax.metrics.features.small import (
    ClassifierSizes,
    ConvolutionalNetwork,
    SmallClassifier,
    as_images,
    scaled,
)


def fit_classifier(
    images: np.ndarray,
    labels: np.ndarray,
    *,
    seed: int = 0,
    num_steps: int = 2000,
    batch_size: int = 128,
    learning_rate: float = 2e-3,
    num_features: int = 128,
) -> SmallClassifier:
    """Trains a small convolutional network to tell classes, or which labels are present.

    Adam with decoupled weight decay and a learning rate that rises and falls once; the loss is the
    cross-entropy of the softmax, or of a sigmoid for each label. The same arguments give the same
    weights on the same machine.

    Args:
        images: (n, height, width[, channels]), uint8 or floats in [−1, 1], sides of 4 or more.
            Floats of which none is negative are refused, as they are images in [0, 1]: uint8 ones,
            which are scaled to [−1, 1], would look otherwise to the network.
        labels: (n,) class indices, or (n, labels) of 0 and 1 for what is present.
        seed: of the first weights and of the order.
        num_steps: how many batches the network is trained on.
        batch_size: how many images a batch has, at most n.
        learning_rate: the highest rate.
        num_features: of the penultimate layer.

    Raises:
        ValueError: images or labels of other shapes or values, or numbers below 1.
        FloatingPointError: the loss is not finite in the end.

    Example:
        >>> images = np.zeros((8, 8, 8), np.uint8)
        >>> images[4:] = 255
        >>> labels = np.repeat([0, 1], 4)
        >>> fitted = fit_classifier(images, labels, num_steps=20, num_features=4)
        >>> fitted.predict(images).tolist()
        [0, 0, 0, 0, 1, 1, 1, 1]
        >>> fitted.features(images).shape
        (8, 4)
    """
    images = as_images(images)
    if images.dtype != np.uint8 and images.min() >= 0:
        raise errors.invalid(
            "images",
            f"floats in {images.min():g} … {images.max():g}",
            "uint8, or floats in [−1, 1], some of them negative",
            "scale images in [0, 1] by np.round(images * 255).astype(np.uint8)",
        )
    labels = _checked_labels(np.asarray(labels), len(images))
    ranges.check_whole("num_steps", num_steps, 1)
    ranges.check_whole("batch_size", batch_size, 1)
    ranges.check_whole("num_features", num_features, 1)
    ranges.check_real("learning_rate", learning_rate, 0, ends="()")
    multi_label = labels.ndim == 2
    height, width = images.shape[1:3]
    sizes = ClassifierSizes(
        image_shape=(height, width, images.shape[-1]),
        num_classes=labels.shape[1] if multi_label else int(labels.max()) + 1,
        multi_label=multi_label,
        widths=_widths(height, width),
        num_features=num_features,
    )
    recipe = _Recipe(sizes, num_steps, learning_rate)
    params, opt_state = _start(recipe, jax.random.key(seed))
    rng, batch_size = np.random.default_rng(seed), min(batch_size, len(images))
    order, loss = np.zeros(0, np.int64), jnp.zeros(())
    for _ in range(num_steps):
        if len(order) < batch_size:
            order = rng.permutation(len(images))
        rows, order = order[:batch_size], order[batch_size:]
        params, opt_state, loss = _step(recipe, params, opt_state, images[rows], labels[rows])
    if not np.isfinite(loss):
        raise FloatingPointError(
            errors.message("loss", float(loss), "a finite one", "lower learning_rate")
        )
    return SmallClassifier(sizes, jax.device_get(params))


@dataclasses.dataclass(frozen=True)
class _Recipe:
    """What a compiled step depends on beside its arrays."""

    sizes: ClassifierSizes
    num_steps: int
    learning_rate: float

    def optimiser(self) -> optax.GradientTransformation:
        """Adam with decoupled weight decay and a rate that rises and falls once."""
        rate = optax.cosine_onecycle_schedule(self.num_steps, self.learning_rate, pct_start=0.2)
        return optax.adamw(rate, weight_decay=1e-3)


@functools.partial(jax.jit, static_argnums=0)
def _start(recipe: _Recipe, key: jax.Array) -> tuple[Any, optax.OptState]:
    net = ConvolutionalNetwork(recipe.sizes)
    params = net.init(key, jnp.zeros((1, *recipe.sizes.image_shape)))["params"]
    return params, recipe.optimiser().init(params)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=(1, 2))
def _step(
    recipe: _Recipe, params: Any, opt_state: optax.OptState, images: jax.Array, labels: jax.Array
) -> tuple[Any, optax.OptState, jax.Array]:
    def loss_of(params: Any) -> jax.Array:
        logits, *_ = ConvolutionalNetwork(recipe.sizes).apply({"params": params}, scaled(images))
        if recipe.sizes.multi_label:
            return optax.sigmoid_binary_cross_entropy(logits, labels).mean()
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    loss, gradients = jax.value_and_grad(loss_of)(params)
    updates, opt_state = recipe.optimiser().update(gradients, opt_state, params)
    return optax.apply_updates(params, updates), opt_state, loss


def _widths(height: int, width: int) -> tuple[int, ...]:
    """Convolutions until the shorter side is 4 or less, at least two and at most five."""
    shorter = min(height, width)
    if shorter < 4:
        raise errors.invalid(
            "images", f"sides of {height} × {width}", "sides of 4 or more", "enlarge them"
        )
    depth = min(max(math.ceil(math.log2(shorter / 4)), 2), 5)
    return (32, 64, 128, 128, 128)[:depth]


def _checked_labels(labels: np.ndarray, num_images: int) -> np.ndarray:
    """The labels as integers, or as floats of 0 and 1 where several may be present."""
    kind = labels.dtype.kind
    whole = kind in "iub" or (kind == "f" and np.all(labels == np.round(labels)))
    right = labels.ndim in (1, 2) and len(labels) == num_images and whole
    if right and labels.ndim == 2:
        right = set(np.unique(labels)) <= {0, 1}
    elif right:
        right = labels.min() >= 0 and labels.max() >= 1
    if not right:
        raise errors.invalid(
            "labels",
            f"{labels.dtype} of shape {labels.shape}",
            f"({num_images},) class indices from 0 on, of two classes or more, or "
            f"({num_images}, labels) of 0 and 1",
            "pass one row an image",
        )
    return labels.astype(np.float32 if labels.ndim == 2 else np.int32)
