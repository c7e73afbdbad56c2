"""Generating with a trained model: options, batches, shards on disk, pictures."""

from mmdiffusion_jax.generation.generator import Draw, Generator, distinct, example_key
from mmdiffusion_jax.generation.options import THRESHOLDS, SamplingOptions
from mmdiffusion_jax.generation.pictures import write_pictures
from mmdiffusion_jax.generation.shards import Shards, open_shards, write_shards
from mmdiffusion_jax.generation.sheet import contact_sheet

__all__ = [
    "THRESHOLDS",
    "Draw",
    "Generator",
    "SamplingOptions",
    "Shards",
    "contact_sheet",
    "distinct",
    "example_key",
    "open_shards",
    "write_pictures",
    "write_shards",
]
