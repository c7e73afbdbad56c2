"""Files on disks and in buckets: paths, writes that are whole or not at all, and locks."""

from mmdiffusion_jax.files.buckets import BucketPath, Stat, is_bucket
from mmdiffusion_jax.files.leases import LeaseLostError, require_held
from mmdiffusion_jax.files.lines import LineWriter, read_lines
from mmdiffusion_jax.files.locks import locked
from mmdiffusion_jax.files.places import local_path, same_place, to_path
from mmdiffusion_jax.files.trying import writable_file, writable_folder
from mmdiffusion_jax.files.whole import (
    Copied,
    is_unfinished,
    local_copy,
    move,
    naming,
    remove_leftovers,
    replacing,
    write_png,
    write_text,
)

__all__ = [
    "BucketPath",
    "Copied",
    "LeaseLostError",
    "LineWriter",
    "Stat",
    "is_bucket",
    "is_unfinished",
    "local_copy",
    "local_path",
    "locked",
    "move",
    "naming",
    "read_lines",
    "remove_leftovers",
    "replacing",
    "require_held",
    "same_place",
    "to_path",
    "writable_file",
    "writable_folder",
    "write_png",
    "write_text",
]
