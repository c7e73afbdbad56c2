"""A folder of pictures, with masks, labels and captions beside them, as a prepared data set."""

from mmdiffusion_jax.data.folder.listing import shown
from mmdiffusion_jax.data.folder.options import BY_FOLDER, CROPS, FolderOptions
from mmdiffusion_jax.data.folder.prepare import RECORD_FILE, SKIPPED_FILE, Prepared, prepare
from mmdiffusion_jax.data.folder.tables import read_rows

__all__ = [
    "BY_FOLDER",
    "CROPS",
    "RECORD_FILE",
    "SKIPPED_FILE",
    "FolderOptions",
    "Prepared",
    "prepare",
    "read_rows",
    "shown",
]
