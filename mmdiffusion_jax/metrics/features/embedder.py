"""Networks whose features are embeddings of images, by the names that configs know them by."""

from pathlib import Path

from mmdiffusion_jax import errors
from mmdiffusion_jax.metrics.features.efficientnet import (
    EFFICIENTNET,
    EfficientNetFeatures,
    package_file,
)
from mmdiffusion_jax.metrics.features.small import SmallClassifier

Embedder = SmallClassifier | EfficientNetFeatures
"""A network whose features are embeddings."""


def read_embedder(name: str) -> Embedder:
    """The network that a name stands for.

    Args:
        name: "efficientnet", the network of natural images in the installed package, or the file of
            a small classifier.

    Raises:
        ValueError: a package or a file that is missing, or a file of something else.

    Example:
        >>> read_embedder("efficientnett")
        Traceback (most recent call last):
        ...
        ValueError: `embedder`: got 'efficientnett', where there is no file, expected 'efficien...
    """
    file = embedder_file(name)
    if file is None:
        raise errors.invalid(
            "embedder",
            f"{name!r}, where there is no {'package' if name == EFFICIENTNET else 'file'}",
            f"{EFFICIENTNET!r} or the file of a small classifier",
            "install mmdiffusion_jax[features]"
            if name == EFFICIENTNET
            else "fit one with launch/fit_features.py, or correct the name",
        )
    if name == EFFICIENTNET:
        return EfficientNetFeatures.from_file(file)
    try:
        return SmallClassifier.load(file)
    except ValueError as error:
        raise ValueError(str(error).replace("`path`", "`embedder`", 1)) from error


def embedder_file(name: str) -> Path | None:
    """The file with the weights of the network that a name stands for; None where there is none.

    Example:
        >>> embedder_file("missing.safetensors") is None
        True
    """
    try:
        file = package_file() if name == EFFICIENTNET else Path(name)
    except ValueError:
        return None
    return file if file.is_file() else None
