"""One picture with what belongs to it, as a record of a TFDS data set."""

import dataclasses
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from mmdiffusion_jax import files
from mmdiffusion_jax.data.folder.listing import Entry, Listing, shown
from mmdiffusion_jax.data.folder.options import FolderOptions
from mmdiffusion_jax.data.folder.pixels import (
    VOID,
    Refused,
    Unreadable,
    bit_depth,
    box_of,
    classes_of,
    flatten,
    mask_pixels,
    nearest,
    read_upright,
    shrink,
)
from mmdiffusion_jax.data.presence import SUFFIX

if TYPE_CHECKING:
    import tensorflow_datasets as tfds


@dataclasses.dataclass(frozen=True)
class Example:
    """What became of a picture.

    Attributes:
        record: the serialised example, or None where a file is unreadable or refused.
        file: the unreadable or refused file, relative to its folder.
        reason: why it is unreadable, or "".
        refused: (got, expected, mend) of a mask, or nothing.
        classes: the numbers that the mask has.
        is_grey: whether the picture has no colours, by its format.
        is_small: whether it had to be made larger.
    """

    record: bytes | None = None
    file: str = ""
    reason: str = ""
    refused: tuple[str, ...] = ()
    classes: tuple[int, ...] = ()
    is_grey: bool = False
    is_small: bool = False


def features_of(options: FolderOptions, listing: Listing) -> "tfds.features.FeaturesDict":
    """The features of the data set.

    They are `image`, `file`, its relative path, and, where asked for, `mask`, `label` and
    `caption`; `<name>_present` where some pictures lack a mask or a label.
    """
    import tensorflow_datasets as tfds

    entries = [entry for split in listing.splits.values() for entry in split]
    present = tfds.features.Tensor(shape=(), dtype=np.bool_)
    features: dict[str, Any] = {
        "image": tfds.features.Image(shape=(*options.size, 1 if options.grey else 3)),
        "file": tfds.features.Text(),
    }
    if options.masks:
        features["mask"] = tfds.features.Tensor(
            shape=options.size, dtype=np.uint8, encoding="bytes"
        )
        if not all(entry.mask for entry in entries):
            features["mask" + SUFFIX] = present
    if options.labels:
        features["label"] = tfds.features.ClassLabel(names=list(listing.class_names))
        if any(entry.label < 0 for entry in entries):
            features["label" + SUFFIX] = present
    if options.captions:
        features["caption"] = tfds.features.Text()
    return tfds.features.FeaturesDict(features)


class ExampleMaker:
    """Makes records of entries; several threads may call it at once.

    Args:
        options: what is made of the folder.
        features: of the data set.
    """

    def __init__(self, options: FolderOptions, features: "tfds.features.FeaturesDict") -> None:
        from tensorflow_datasets.core import example_serializer

        self._options, self._features = options, features
        self._folder = files.local_path(options.folder, "folder")
        self._masks = files.local_path(options.masks, "masks") if options.masks else Path()
        self._serializer = example_serializer.ExampleSerializer(features.get_serialized_info())

    def __call__(self, entry: Entry) -> Example:
        """Reads the files of an entry and makes its record."""
        options, file = self._options, entry.picture
        try:
            picture = read_upright(self._folder / file, options.max_pixels)
            image = flatten(picture, options.grey)
            box = box_of(image.size, options.size, options.crop)
            classes = None
            if entry.mask:
                file = entry.mask
                mask = read_upright(self._masks / file, options.max_pixels, ("PNG",))
                classes = self._classes(mask, image.size, entry)
        except Unreadable as error:
            return Example(file=shown(file), reason=str(error))
        except Refused as error:
            return Example(file=shown(file), refused=error.args)
        small = shrink(image, box, options.size)
        is_small = box[2] - box[0] < options.size[1] or box[3] - box[1] < options.size[0]
        return Example(
            self._serialise(entry, small, classes),
            classes=() if classes is None else tuple(map(int, np.unique(classes))),
            is_grey=picture.mode in ("1", "L", "LA") or picture.mode.startswith("I"),
            is_small=is_small,
        )

    def _classes(self, mask: Image.Image, size: tuple[int, int], entry: Entry) -> np.ndarray:
        """The mask's classes at the size of the options."""
        if mask.size != size:
            sides = " × ".join(map(str, reversed(mask.size)))
            expected = " × ".join(map(str, reversed(size)))
            raise Refused(
                f"{sides} pixels",
                f"{expected}, as {shown(entry.picture)!r} has when it is upright",
                "draw the mask on the picture as it is seen, and store it at that size",
            )
        options = self._options
        bits = bit_depth(self._masks / entry.mask)
        pixels = mask_pixels(mask, as_colours=bool(options.palette), bits=bits)
        box = box_of(size, options.size, options.crop)
        pixels = nearest(pixels, box, options.size)
        return classes_of(pixels, options.palette) if options.palette else pixels

    def _serialise(self, entry: Entry, image: Image.Image, classes: np.ndarray | None) -> bytes:
        row: dict[str, Any] = {"image": _png(image), "file": shown(entry.picture)}
        if classes is None:
            classes = np.full(self._options.size, VOID, np.uint8)
        values: Mapping[str, Any] = {
            "mask": classes,
            "mask" + SUFFIX: bool(entry.mask),
            "label": max(entry.label, 0),
            "label" + SUFFIX: entry.label >= 0,
            "caption": entry.caption,
        }
        row |= {name: value for name, value in values.items() if name in self._features}
        return self._serializer.serialize_example(self._features.encode_example(row))


def _png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format="png")
    return stream.getvalue()


def modified(entry: Entry, folder: Path, masks: Path) -> Sequence[int]:
    """(bytes, nanoseconds of the last change) of an entry's files, zeros where one is missing."""
    places = [folder / entry.picture] + ([masks / entry.mask] if entry.mask else [])
    numbers: list[int] = []
    for place in places:
        try:
            status = place.stat()
        except OSError:
            numbers += [0, 0]
            continue
        numbers += [status.st_size, status.st_mtime_ns]
    return numbers
