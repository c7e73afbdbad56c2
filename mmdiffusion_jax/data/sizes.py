"""Bringing images and masks of one size to another: zero padding, area means, nearest pixels."""

from collections.abc import Collection, Mapping

import numpy as np

from mmdiffusion_jax import errors
from mmdiffusion_jax.data.presence import present
from mmdiffusion_jax.data.sources import ArraySource, Source

_CHUNK = 4096


def resized(
    source: Source, size: tuple[int, int], images: Collection[str], masks: Mapping[str, int]
) -> ArraySource:
    """A source whose images and masks have another size; all of it is held in memory.

    Args:
        source: the examples.
        size: (height, width), as of `resize_images`.
        images: columns (height, width, channels) of integers 0 … 255; a grey one may lack its
            channel axis, and gets it.
        masks: {column (height, width) of integers: the class of the padding}.

    Raises:
        ValueError: as `resize_images`, or numbers that are no pixels.

    Example:
        >>> source = ArraySource({"image": np.full((5, 28, 28), 200, np.uint8)})
        >>> resized(source, (16, 16), ["image"], {}).columns["image"][0]
        (16, 16, 1)
    """

    def change(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        for name in images:
            x = batch[name] if batch[name].ndim == 4 else batch[name][..., None]
            batch[name] = resize_images(_pixels(name, x, present(batch, [name])), size)
        for name, fill in masks.items():
            batch[name] = resize_masks(batch[name], size, fill)
        return batch

    rows = np.arange(len(source))
    parts = [change(source.take(rows[i : i + _CHUNK])) for i in range(0, len(rows), _CHUNK)]
    return ArraySource(
        {name: np.concatenate([part[name] for part in parts]) for name in parts[0]},
        left_out=getattr(source, "left_out", None),
    )


def _pixels(name: str, x: np.ndarray, present: np.ndarray) -> np.ndarray:
    """The images as pixels; those that are absent may hold anything."""
    x = x if present.all() else np.where(present.reshape(-1, 1, 1, 1), x, 0)
    if x.min() < 0 or x.max() > 255:
        raise errors.invalid(
            "size",
            f"a size for {name!r}, whose numbers are {x.min()} … {x.max()}",
            "pixels in 0 … 255",
            "scale them first",
        )
    return x.astype(np.uint8, copy=False)


def resize_images(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Images of another size: padded with zeros where larger, means over blocks where smaller.

    With k = ⌈stored / wanted⌉, the image is padded to k · wanted, centred, and each block of k × k
    pixels becomes its mean, rounded half up. (examples, height, width, channels) uint8 becomes
    (examples, *size, channels) uint8; the size (0, 0) leaves the images as they are.

    Raises:
        ValueError: a size that is not positive, needs other factors in the two directions, or a
            padding of more than a quarter of the image before it shrinks.

    Example:
        >>> resize_images(np.full((1, 28, 28, 1), 200, np.uint8), (16, 16))[0, :2, 8, 0].tolist()
        [0, 200]
    """
    factor, padding = _plan(images.shape[1:3], size)
    if factor == 1:
        return np.pad(images, ((0, 0), *padding, (0, 0))) if any(map(any, padding)) else images
    resized = np.empty((len(images), *size, images.shape[-1]), np.uint8)
    # In parts, as the sums are wider than the pixels.
    for start in range(0, len(images), _CHUNK):
        part = np.pad(images[start : start + _CHUNK], ((0, 0), *padding, (0, 0)))
        blocks = part.reshape(len(part), size[0], factor, size[1], factor, -1)
        sums = blocks.sum((2, 4), dtype=np.uint32)
        resized[start : start + _CHUNK] = (sums + factor**2 // 2) // factor**2
    return resized


def resize_masks(masks: np.ndarray, size: tuple[int, int], fill: int = 0) -> np.ndarray:
    """Masks of another size: as `resize_images`, with the pixel at a block's centre for its mean.

    (examples, height, width) integers become (examples, *size) of the same dtype; `fill` is the
    class of the padding.

    Example:
        >>> resize_masks(np.array([[[1, 2], [3, 4]]]), (1, 1)).item()
        4
    """
    factor, padding = _plan(masks.shape[1:3], size)
    if any(map(any, padding)):
        masks = np.pad(masks, ((0, 0), *padding), constant_values=fill)
    if factor == 1:
        return masks
    return np.ascontiguousarray(masks[:, factor // 2 :: factor, factor // 2 :: factor])


def _plan(
    stored: tuple[int, ...], size: tuple[int, int]
) -> tuple[int, tuple[tuple[int, int], tuple[int, int]]]:
    if tuple(size) == (0, 0):
        return 1, ((0, 0), (0, 0))
    expected = f"(0, 0), sides of at least {stored}, or ones of which {stored} is a multiple"
    if len(size) == 2 and min(size) > 0:
        factors = {-(-have // want) for have, want in zip(stored, size)}
        factor = factors.pop()
        extra = [factor * want - have for have, want in zip(stored, size)]
        small = factor == 1 or all(4 * more <= have for more, have in zip(extra, stored))
        if not factors and small:
            low, high = (more // 2 for more in extra), (more - more // 2 for more in extra)
            rows, columns = zip(low, high)
            return factor, (rows, columns)
    raise errors.invalid(
        "size", tuple(size), f"{expected} after padding by a quarter at most", "choose another size"
    )
