"""The data of an experiment, checked against its modalities."""

from collections.abc import Mapping

import numpy as np
from ml_collections import ConfigDict

from mmdiffusion_jax import data, errors
from mmdiffusion_jax.experiment.build import build
from mmdiffusion_jax.modalities import Modality


def open_data(config: ConfigDict) -> tuple[data.Source, data.Source]:
    """Opens (and for the digits prepares) the training and the test split, checked.

    Raises:
        ValueError: data that are missing, damaged, or do not fit the modalities.
    """
    experiment_modalities = build(config).model.modalities
    section = config.data
    sources: tuple[data.Source, data.Source]
    if section.source == "npz":
        sources = data.open_npz(section.train), data.open_npz(section.test)
    else:
        folder = (
            data.digits.prepare(section.folder) if section.source == "digits" else section.folder
        )
        sources = data.open_tfds(folder, section.train), data.open_tfds(folder, section.test)
    for source, split in zip(sources, ("train", "test"), strict=True):
        check_source(source, experiment_modalities, split)
    return sources


def check_source(source: data.Source, modalities: Mapping[str, Modality], split: str) -> None:
    """Checks that a source has every modality, in its shape, kind and range.

    The range is checked on all examples of a source in memory, on the first 1,024 of another.

    Raises:
        ValueError: naming split and modality, what came and what was expected.
    """
    for name, modality in modalities.items():
        if name not in source.columns:
            raise ValueError(
                errors.unknown(
                    f"{split} data", name, source.columns, f"the modality {name!r} needs an array"
                )
            )
        (shape, dtype), (expected, kind) = source.columns[name], modality.columns
        if tuple(shape) != tuple(expected) or not np.issubdtype(dtype, getattr(np, kind)):
            raise ValueError(
                errors.message(
                    f"{split} data, {name}",
                    f"examples of shape {tuple(shape)} and dtype {np.dtype(dtype)}",
                    f"shape {tuple(expected)} and {kind} values",
                    "reshape the data (an image has a channel axis) or correct the config",
                )
            )
    whole = len(source) if isinstance(source, data.ArraySource) else min(1024, len(source))
    values = source.take(np.arange(whole))
    for name, modality in modalities.items():
        modality.validate(f"{split} data, {name}", values[name])
