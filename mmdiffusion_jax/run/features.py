"""Fitting the feature network that judges samples of one kind of data."""

from pathlib import Path

import numpy as np

from mmdiffusion_jax import data, errors, metrics


def fit_features(
    path: str,
    out: str,
    *,
    test: str | None = None,
    image: str = "image",
    label: str = "label",
    num_steps: int = 2000,
    seed: int = 0,
) -> metrics.SmallClassifier:
    """Trains a small classifier on a file and writes it to another; prints its identity.

    Args:
        path: an `.npz` file with images (n, height, width[, channels]), uint8 or floats in
            [−1, 1], and labels (n,) or (n, labels) of 0 and 1.
        out: the `.safetensors` file to be written; its folder exists.
        test: another such file; the accuracy on it is printed.
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
    train = _read(path, image, label)
    held_out = None if test is None else _read(test, image, label)
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


def _read(path: str, image: str, label: str) -> tuple[np.ndarray, np.ndarray]:
    source = data.open_npz(path)
    for flag, name in (("image", image), ("label", label)):
        if name not in source.columns:
            raise ValueError(errors.unknown(flag, name, source.columns, f"{path} has these"))
    columns = source.take(np.arange(len(source)))
    return columns[image], columns[label]
