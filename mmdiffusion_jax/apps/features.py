"""Fits the network whose features and labels judge samples."""

import dataclasses

import numpy as np

from mmdiffusion_jax import data, errors, files, metrics, ranges


@dataclasses.dataclass(frozen=True)
class LabelledImages:
    """Where images and their labels lie.

    Attributes:
        path: an `.npz` file with images (n, height, width[, channels]), uint8 or floats in
            [−1, 1], and labels (n,) or (n, labels) of 0 and 1; or a name of `data.SMALL_SETS`,
            which brings its own test split.
        test: another such file, or None.
        folder: where the small sets lie.
        size: (height, width) of their images; (0, 0) for the stored one.
        image: the name of the images in the files.
        label: the name of the labels in the files.
    """

    path: str
    test: str | None = None
    folder: str = ""
    size: tuple[int, int] = (0, 0)
    image: str = "image"
    label: str = "label"


def fit_features(
    where: LabelledImages, out: str, *, num_steps: int = 2000, seed: int = 0
) -> metrics.SmallClassifier:
    """Trains a small classifier on a file and writes it to another; prints its identity.

    Examples in which image or label is absent, by `<name>_present`, count nowhere.

    Args:
        where: the place of the images; the accuracy on their test split, if any, is printed.
        out: the `.safetensors` file to be written; its folder exists.
        num_steps: of the training.
        seed: of the training.

    Returns:
        The classifier.

    Raises:
        ValueError: a file that is missing, has other contents or no example with both, or an output
            that cannot be written.
    """
    ranges.check_whole("seed", seed, 0, ranges.MAX_SEED)
    file = files.writable_file(out, "out", suffix=".safetensors")
    small = where.path in data.SMALL_SETS
    unused = (
        [("test", where.test, None)]
        if small
        else [("path", where.folder, ""), ("size", where.size, (0, 0))]
    )
    for name, value, default in unused:
        if value != default:
            kind = "a small set, which has its test split" if small else "an .npz file"
            raise errors.invalid(name, value, f"nothing beside {kind}", "leave it out")
    if small:
        folder = str(files.local_path(where.folder, "path")) if where.folder else ""
        open_split = data.SMALL_SETS[where.path]
        sources = [open_split(folder, split, where.size) for split in ("train", "test")]
    else:
        named = (("data", where.path), ("test", where.test))
        paths = [files.local_path(place, flag) for flag, place in named if place is not None]
        sources = [data.open_npz(place) for place in paths]
    names = (where.path, where.test or f"the test split of {where.path}")
    train, *rest = (_columns(source, where, name) for source, name in zip(sources, names))
    held_out = rest[0] if rest else None
    for name, ours, theirs in zip((where.image, where.label), train, held_out or train):
        if ours.shape[1:] != theirs.shape[1:]:
            raise errors.invalid(
                "test",
                f"{name!r} of shape (n, *{theirs.shape[1:]})",
                f"(n, *{ours.shape[1:]}), as in {where.path}",
                "prepare both files in the same way",
            )
    network = metrics.fit_classifier(*train, num_steps=num_steps, seed=seed)
    network.save(file)
    print(f"identity  {network.identity}")
    if held_out is not None:
        images, labels = held_out
        accuracy = metrics.agreement(network.predict(images), labels)
        print(f"accuracy  {accuracy:.4f}  ({len(labels)})", flush=True)
    return network


def _columns(
    source: data.Source, where: LabelledImages, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of the examples that have both."""
    image, label = where.image, where.label
    for flag, column in (("image", image), ("label", label)):
        if column not in source.columns:
            raise errors.unknown(flag, column, source.columns, "the data have these")
    rows = data.rows_with(source, (image, label))
    if not len(rows):
        raise errors.invalid(
            "data",
            f"no example of {name} in which {image!r} and {label!r} are present",
            "two examples or more with both",
            "name other columns",
        )
    columns = source.take(rows)
    return columns[image], columns[label]
