"""Digests of an experiment's data: files may move, their contents may not change."""

import hashlib
import json
from pathlib import Path

from ml_collections import ConfigDict

from mmdiffusion_jax import data, metrics

FILE = "data.json"
"""In a workdir: the digests of the data that the experiment was started on."""


def data_digests(config: ConfigDict) -> dict[str, str]:
    """Digests of the files that the data section of a config names.

    They cost little: of an `.npz` file, of a small set and of a prepared data set only the
    directory is read (`data.npz_digest`, `data.small_set_digest`, `data.tfds_digest`), of the
    weights of `data.embedder` all.

    Returns:
        {key in the config: digest}; the digits are made anew and name no files.

    Raises:
        ValueError: a file that is missing or cannot be read.

    Example:
        >>> from mmdiffusion_jax.experiment import default_config
        >>> data_digests(default_config())
        {}
    """
    section = config.data
    digests = {}
    if section.source == "npz":
        for split in ("train", "test"):
            digests[f"data.{split}"] = data.npz_digest(section[split])
    if section.source == "tfds":
        digests["data.folder"] = data.tfds_digest(section.folder, (section.train, section.test))
    if section.source in data.SMALL_SETS:
        digests["data.path"] = data.small_set_digest(section.source, section.path)
    if digest := embedder_digest(section.embedder):
        digests["data.embedder"] = digest
    return digests


def embedder_digest(embedder: str) -> str:
    """The digest of the weights of `data.embedder`; empty where none is set or its file is gone.

    One that is missing is missed where its features are wanted.
    """
    file = metrics.embedder_file(embedder) if embedder else None
    return "" if file is None else hashlib.sha256(file.read_bytes()).hexdigest()


def read_digests(workdir: Path) -> dict[str, str]:
    """The digests that a workdir keeps; none where they cannot be read, as of earlier versions.

    Then names of files are compared in their place, and the digests written anew.
    """
    try:
        return dict(json.loads((workdir / FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}
