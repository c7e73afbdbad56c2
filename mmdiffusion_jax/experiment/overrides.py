"""The flags `--config=FILE` and `--config.key=value` of the launch scripts."""

from collections.abc import Iterable, Mapping
from typing import Any

from mmdiffusion_jax import errors
from mmdiffusion_jax.experiment.config_file import read_config_file
from mmdiffusion_jax.experiment.sections.choices import complete
from mmdiffusion_jax.experiment.settings import default_config, tables


def unknown_override(arguments: Iterable[str]) -> str | None:
    """The error for the first argument `--config.x.y=…` whose key does not exist, or None.

    The keys are those of the file in `--config=FILE`, or without one those of the default.

    Raises:
        ValueError: a config file that cannot be read.

    Example:
        >>> unknown_override(["--config.training.num_step=5"]).split("; ")[-1]
        "did you mean 'num_steps'?"
    """
    arguments = list(arguments)
    place = config_place(arguments)
    named = (default_config() if place is None else read_config_file(place)).to_dict()
    for argument in arguments:
        if not argument.startswith("--config."):
            continue
        section: Any = named
        path = "config"
        for key in argument.partition("=")[0].split(".")[1:]:
            table = tables().get(path.removeprefix("config."))
            if table is not None and (error := _not_in_choice(path, key, section, table)):
                return error
            if not isinstance(section, Mapping):
                break
            if not section:  # Sections named by the modalities may be empty.
                return errors.message(
                    f"{path}.{key}",
                    "a flag",
                    "a key that the config file names, as flags add none",
                    f"write {path} = {{{key!r}: …}} there",
                )
            if key not in section:
                return _unknown_key(path, key, section)
            path, section = f"{path}.{key}", section[key]
    return None


def config_place(arguments: Iterable[str]) -> str | None:
    """The FILE or FILE:FORM that arguments name by `--config=FILE` or `--config FILE`, or None.

    Example:
        >>> config_place(["--workdir=W", "--config=configs/image_label.py:small"])
        'configs/image_label.py:small'
    """
    words = iter(arguments)
    for word in words:
        name, mark, place = word.partition("=")
        if name in ("--config", "-config"):
            return place if mark else next(words, "")
    return None


def _not_in_choice(path: str, key: str, chosen: Any, table: Mapping[str, Any]) -> str | None:
    """The error for a field that the config file does not name, as a flag cannot add one."""
    try:
        whole = complete(path, chosen, table)
    except ValueError as error:
        return str(error)
    if key not in whole:
        return _unknown_key(path, key, whole)
    if isinstance(chosen, Mapping) and key in chosen:
        return None
    return errors.message(
        f"{path}.{key}",
        "a flag",
        "a field that the config file names",
        f"name it there, or write --{path}='{whole['kind']}({key}=…)'",
    )


def _unknown_key(path: str, key: str, section: Mapping[str, Any]) -> str:
    """The error for an unknown key; one that a section has is named with its section."""
    if path == "config":
        # Most keys that are written without their section are of training.
        for name in sorted(section, key=lambda name: name != "training"):
            inner = section[name] if isinstance(section[name], Mapping) else {}
            for place in [key] if key in inner else errors.nearest(key, inner, cutoff=1.0):
                mend = f"did you mean '{name}.{place}'?"
                return errors.message(path, repr(key), "the key's section too", mend)
    return str(errors.unknown(path, key, section))
