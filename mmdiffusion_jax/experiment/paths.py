"""Files and folders in a config: `~` is the home folder, and data are on disks."""

from ml_collections import ConfigDict

from mmdiffusion_jax import files

# A split of a prepared data set, or the name of a network, is a path that stays as it is.
_PATHS = (
    "data.folder",
    "data.path",
    "data.train",
    "data.test",
    "data.embedder",
    "evaluation.features",
    "evaluation.lpips",
    "init_from",
)


def local_paths(config: ConfigDict) -> ConfigDict:
    """A copy of a config in which `~` is the home folder, wherever a key names a file or a folder.

    Raises:
        ValueError: a URL such as `gs://bucket/x`, but for `init_from`; or `~name` of a user that is
            not there; the error names the key.

    Example:
        >>> from mmdiffusion_jax.experiment.settings import default_config
        >>> config = default_config()
        >>> config.data.folder = "~/data"
        >>> local_paths(config).data.folder.startswith("~")
        False
    """
    config = config.copy_and_resolve_references()
    for path in _PATHS:
        section, _, key = path.rpartition(".")
        values = config.get(section) if section else config
        if not isinstance(values, ConfigDict) or key not in values:
            continue
        value = values[key]
        with values.unlocked():
            if isinstance(value, str):
                values[key] = _expanded(value, f"config.{path}")
            elif isinstance(value, tuple | list):
                values[key] = type(value)(_expanded(text, f"config.{path}") for text in value)
    return config


def _expanded(text: str, argument: str) -> str:
    """As it came but for `~`, so that a run goes on with the path that it was begun with."""
    if not isinstance(text, str) or not text:
        return text
    to_path = files.to_path if argument == "config.init_from" else files.local_path
    path = to_path(text, argument)
    return str(path) if text.startswith("~") else text
