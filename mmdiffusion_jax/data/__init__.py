"""Data sets and the input pipeline."""

from mmdiffusion_jax.data import digits
from mmdiffusion_jax.data.pipeline import eval_batches, to_device, train_batches
from mmdiffusion_jax.data.sources import ArraySource, RecordSource, Source, open_npz, open_tfds

__all__ = [
    "ArraySource",
    "RecordSource",
    "Source",
    "digits",
    "eval_batches",
    "open_npz",
    "open_tfds",
    "to_device",
    "train_batches",
]
