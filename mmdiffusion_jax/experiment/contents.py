"""What the data of an experiment hold, told by digests: files may move, contents may not change."""

import hashlib
import json
from pathlib import Path

from ml_collections import ConfigDict

from mmdiffusion_jax import data

FILE = "data.json"
"""In a workdir: the digests of what the experiment was started on."""


def data_digests(config: ConfigDict) -> dict[str, str]:
    """Digests of the files that the data section of a config names.

    They cost little: of an `.npz` file and of a prepared data set what their directories list is
    read (`data.npz_digest`, `data.tfds_digest`), of the network in `data.embedder` all of it.

    Args:
        config: the experiment's.

    Returns:
        {key in the config: digest of what is there}; other sources name no files.

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
    if section.embedder and Path(section.embedder).is_file():
        contents = Path(section.embedder).read_bytes()
        digests["data.embedder"] = hashlib.sha256(contents).hexdigest()
    return digests


def read_digests(workdir: Path) -> dict[str, str]:
    """The digests that a workdir keeps; none where it was made without.

    What cannot be read counts as none: then names are compared, and the digests written anew.
    """
    try:
        return dict(json.loads((workdir / FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}
