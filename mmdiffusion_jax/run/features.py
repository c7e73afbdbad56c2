"""Fitting the feature network that judges samples of one kind of data."""

from pathlib import Path

import numpy as np

from mmdiffusion_jax import data, errors, metrics


def fit_features(
    path: str,
    out: str,
    *,
    test: str | None = None,
    folder: str = "",
    size: tuple[int, int] = (0, 0),
    image: str = "image",
    label: str = "label",
    num_steps: int = 2000,
    seed: int = 0,
) -> metrics.SmallClassifier:
    """Trains a small classifier on a file and writes it to another; prints its identity.

    Args:
        path: an `.npz` file with images (n, height, width[, channels]), uint8 or floats in
            [−1, 1], and labels (n,) or (n, labels) of 0 and 1; or a name of `data.SMALL_SETS`,
            which brings its own test split.
        out: the `.safetensors` file to be written; its folder exists.
        test: another such file; the accuracy on it is printed.
        folder: where the small sets lie.
        size: (height, width) of their images; (0, 0) for the stored one.
        image: the name of the images in the files.
        label: the name of the labels in the files.
        num_steps: batches that are learned from.
        seed: of the training.

    Returns:
        The classifier.

    Raises:
        ValueError: a file that is missing or has other contents, or an output that cannot be.
    """
    if not out.endswith(".safetensors") or not Path(out).absolute().parent.is_dir():
        raise ValueError(
            errors.message(
                "out", repr(out), "a .safetensors file in a folder that exists", "choose another"
            )
        )
    if path in data.SMALL_SETS:
        sources = [data.SMALL_SETS[path](folder, split, size) for split in ("train", "test")]
    else:
        sources = [data.open_npz(file) for file in (path, test) if file is not None]
    train, *rest = (_columns(source, image, label) for source in sources)
    held_out = rest[0] if rest else None
    for name, here, there in zip((image, label), train, held_out or train):
        if here.shape[1:] != there.shape[1:]:
            raise ValueError(
                errors.message(
                    "test",
                    f"{name!r} of shape (n, *{there.shape[1:]})",
                    f"(n, *{here.shape[1:]}), as in {path}",
                    "prepare both files in the same way",
                )
            )
    network = metrics.fit_classifier(*train, num_steps=num_steps, seed=seed)
    network.save(out)
    print(f"identity  {network.identity}")
    if held_out is not None:
        images, labels = held_out
        print(f"accuracy  {metrics.agreement(network.predict(images), labels):.4f}", flush=True)
    return network


def _columns(source: data.Source, image: str, label: str) -> tuple[np.ndarray, np.ndarray]:
    for flag, name in (("image", image), ("label", label)):
        if name not in source.columns:
            raise ValueError(errors.unknown(flag, name, source.columns, "the data have these"))
    columns = source.take(np.arange(len(source)))
    return columns[image], columns[label]
