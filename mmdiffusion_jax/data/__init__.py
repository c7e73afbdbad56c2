"""Data sets and the input pipeline: sources of columns, and batches of them for the devices."""

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

from mmdiffusion_jax.data.pipeline import eval_batches, to_device, train_batches
from mmdiffusion_jax.data.prepared import RecordSource, open_tfds
from mmdiffusion_jax.data.sources import ArraySource, Source, Subset, open_npz, split_off

if TYPE_CHECKING:
    from mmdiffusion_jax.data import digits

__all__ = [
    "ArraySource",
    "RecordSource",
    "Source",
    "Subset",
    "digits",
    "eval_batches",
    "open_npz",
    "open_tfds",
    "split_off",
    "to_device",
    "train_batches",
]


def __getattr__(name: str) -> ModuleType:
    # The digits are a TFDS builder, and who brings arrays should not wait for TFDS to load.
    if name == "digits":
        return importlib.import_module("mmdiffusion_jax.data.digits")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
