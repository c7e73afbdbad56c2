"""Samples on disk as pictures, one a file."""

import os
from pathlib import Path

from mmdiffusion_jax import experiment, files, generation


def write_pictures(workdir: str, out: str | os.PathLike[str]) -> Path:
    """Writes the samples that `sample` has left in a folder as PNG files, one each.

    Args:
        workdir: of the experiment that they were drawn from.
        out: the folder of the samples.

    Returns:
        The folder `png` in it, see `generation.write_pictures`.

    Raises:
        ValueError: no experiment in `workdir`, no samples in `out`, or a folder that cannot be
            written to.
    """
    built = experiment.build(experiment.read_config(files.local_path(workdir, "workdir")))
    shards = generation.open_shards(files.local_path(out, "out"))
    files.writable_folder(shards.folder / "png", "out")
    return generation.write_pictures(built.model, shards)
