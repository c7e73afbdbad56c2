"""Data sets and the input pipeline: sources of columns, and batches of them for the devices."""

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

from mmdiffusion_jax.data.audio import log_mel
from mmdiffusion_jax.data.derived import Derivations, Derived, beneath
from mmdiffusion_jax.data.kept import Kept
from mmdiffusion_jax.data.latents import LatentSource, cache_latents
from mmdiffusion_jax.data.mirrored import Mirrored
from mmdiffusion_jax.data.npz import npz_digest, open_npz, write_npz
from mmdiffusion_jax.data.pipeline import eval_batches, to_device, train_batches
from mmdiffusion_jax.data.prepared import RecordSource, open_tfds, tfds_digest
from mmdiffusion_jax.data.presence import (
    count_present,
    having,
    in_portions,
    present,
    repeated,
    rows_with,
    select,
)
from mmdiffusion_jax.data.sizes import resize_images, resize_masks, resized
from mmdiffusion_jax.data.small_sets import (
    SMALL_SETS,
    open_camvid,
    open_cifar10,
    open_fashion_mnist,
    open_mnist,
    open_spoken_digits,
    small_set_digest,
)
from mmdiffusion_jax.data.sources import ArraySource, Source, Subset, split_off

if TYPE_CHECKING:
    from mmdiffusion_jax.data import digits, fixed_size

__all__ = [
    "SMALL_SETS",
    "ArraySource",
    "Derivations",
    "Derived",
    "Kept",
    "LatentSource",
    "Mirrored",
    "RecordSource",
    "Source",
    "Subset",
    "beneath",
    "cache_latents",
    "count_present",
    "digits",
    "eval_batches",
    "fixed_size",
    "having",
    "in_portions",
    "log_mel",
    "npz_digest",
    "open_camvid",
    "open_cifar10",
    "open_fashion_mnist",
    "open_mnist",
    "open_npz",
    "open_spoken_digits",
    "open_tfds",
    "present",
    "repeated",
    "resize_images",
    "resize_masks",
    "resized",
    "rows_with",
    "select",
    "small_set_digest",
    "split_off",
    "tfds_digest",
    "to_device",
    "train_batches",
    "write_npz",
]


def __getattr__(name: str) -> ModuleType:
    # These need TFDS, and who brings arrays should not wait for TFDS to load.
    if name in ("digits", "fixed_size"):
        return importlib.import_module(f"mmdiffusion_jax.data.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
