"""What is shipped with the package and is no part of it: the configs and the launch scripts.

In a clone they are the folders `configs` and `launch` beside the package; an installed wheel has
the same two folders inside the package.
"""

import re
from pathlib import Path

from mmdiffusion_jax import errors

_PACKAGE = Path(__file__).resolve().parent
_NAME = re.compile(r"([A-Za-z]\w*)(:[^/\\]*)?")


def folder(name: str) -> Path:
    """The folder "configs" or "launch".

    Raises:
        ValueError: it was not installed.

    Example:
        >>> (folder("configs") / "digits.py").is_file()
        True
    """
    places = (_PACKAGE / "_shipped" / name, _PACKAGE.parent / name)
    for place in places:
        if place.is_dir():
            return place
    raise errors.invalid(
        "mmdiffusion_jax",
        f"an installation without the folder {name!r}",
        f"{places[0]}, or {places[1]} in a clone",
        "install it from a wheel or from a whole clone",
    )


def config_file(place: str) -> str:
    """The file of a shipped config that NAME or NAME:FORM names; any other place as it came.

    A place with a slash or a point in it is a path, and so is the name of a file that is there.

    Raises:
        ValueError: a name that no shipped config has.

    Example:
        >>> config_file("image_label:small").split("/")[-2:]
        ['configs', 'image_label.py:small']
        >>> config_file("DIR/config.py")
        'DIR/config.py'
        >>> config_file("digit")
        Traceback (most recent call last):
        ...
        ValueError: `config`: got 'digit', expected one of 'digits', ...; did you mean 'digits'? ...
    """
    match = _NAME.fullmatch(place)
    if match is None or Path(match[1]).is_file():
        return place
    configs = {
        file.stem: file
        for file in sorted(folder("configs").glob("*.py"))
        if "def get_config" in file.read_text(encoding="utf-8")
    }
    name, form = match.groups(default="")
    if name not in configs:
        mend = "A config of your own is named by its path, such as ./my_config.py"
        raise errors.unknown("config", name, configs, mend)
    return f"{configs[name]}{form}"
