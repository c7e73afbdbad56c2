"""Config files: Python files with a function `get_config` that returns an experiment's config."""

import contextlib
import inspect
import runpy
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from mmdiffusion_jax import errors, files, shipped


def read_config_file(place: str) -> ConfigDict:
    """The config from `get_config()` in FILE, or from `get_config(FORM)` for FILE:FORM.

    Configs that come with the package are named without folder and ending: NAME or NAME:FORM.

    Raises:
        ValueError: no such file, one that is no Python or fails, that has no `get_config` or one
            that returns anything but a `ConfigDict`, or a form that it does not take.

    Example:
        >>> read_config_file("configs/smoke.py").latent
        (8, 8, 1)
        >>> read_config_file("image_label:small").latent
        (16, 16, 1)
        >>> read_config_file("configs/smok.py")
        Traceback (most recent call last):
        ...
        ValueError: `config`: got 'configs/smok.py', where there is no file, ...
    """
    config = call_in_file(place, "get_config", "return a ConfigDict")
    if not isinstance(config, ConfigDict):
        raise errors.invalid(
            "config",
            f"{type(config).__name__} from get_config() in {place}",
            "a ConfigDict",
            "return one; experiment.default_config() has every key",
        )
    return config


def import_root(place: str) -> Path:
    """The folder that a config file imports from: its own, or that of the package it is part of.

    Example:
        >>> import_root("configs/smoke.py") == Path.cwd()
        True
    """
    folder = Path(place.partition(":")[0]).resolve().parent
    while (folder / "__init__.py").is_file():
        folder = folder.parent
    return folder


def call_in_file(
    place: str, name: str, mend: str, form_is_optional: bool = False, otherwise: Any = None
) -> Any:
    """Runs a config file and calls a function in it, with the form if there is one.

    The file may import its neighbours, see `import_root`.

    Args:
        place: FILE or FILE:FORM, or the name of a config that comes with the package.
        name: of the function.
        mend: what the function has to return, for the error about a file that lacks it.
        form_is_optional: whether a function without an argument is called for every form.
        otherwise: what a file without the function stands for; left out, it is an error.

    Raises:
        ValueError: no such file, one that is no Python or fails, or that lacks the function, or a
            form where the function takes none, or none where it wants one.
    """
    files.local_path(place, "config")  # a URL has a colon too
    place = shipped.config_file(place)
    file, _, form = place.partition(":")
    path = files.local_path(file, "config")
    if not path.is_file():
        what = "which is a folder" if path.is_dir() else "where there is no file"
        raise errors.invalid("config", f"{file!r}, {what}", "a config file *.py", "mend its path")
    with _neighbours_importable(path):
        names = _guarded(path, lambda: runpy.run_path(str(path)))
        function = names.get(name)
        if not callable(function):
            if otherwise is not None:
                return otherwise
            raise errors.invalid(
                "config",
                f"{file} without a function {name}",
                f"def {name}() in it",
                f"write it, and let it {mend}",
            )
        takes_form = not form_is_optional or inspect.signature(function).parameters
        arguments = [form] if form and takes_form else []
        try:
            inspect.signature(function).bind(*arguments)
        except TypeError as error:
            raise errors.invalid(
                "config",
                f"the form {form!r} of {file}" if form else f"{file} without a form",
                f"what {name}({', '.join(inspect.signature(function).parameters)}) takes",
                "leave the form out" if form else "write FILE:FORM",
            ) from error
        return _guarded(path, lambda: function(*arguments))


@contextlib.contextmanager
def _neighbours_importable(path: Path) -> Iterator[None]:
    """Lets a file import its neighbours, which are forgotten: names recur in other folders."""
    before, root = set(sys.modules), str(import_root(str(path)))
    sys.path.insert(0, root)
    try:
        yield
    finally:
        sys.path.remove(root)
        for name in set(sys.modules) - before:
            origin = getattr(sys.modules[name], "__file__", None)
            if origin and Path(origin).parent == path.resolve().parent:
                del sys.modules[name]


def _guarded(path: Path, call: Callable[[], Any]) -> Any:
    """Calls; what the file's own code raises becomes an error about `config`."""
    try:
        return call()
    except Exception as error:
        if isinstance(error, ValueError) and str(error).startswith("`"):
            raise
        lines = [
            x.lineno for x in traceback.extract_tb(error.__traceback__) if x.filename == str(path)
        ]
        if isinstance(error, SyntaxError):
            lines, error = [error.lineno], SyntaxError(error.msg)
        line = f", line {lines[-1]}" if lines else ""
        raise errors.invalid(
            "config",
            f"{path}{line} ({type(error).__name__}: {error})",
            "a config file that runs",
            "mend it there",
        ) from error
