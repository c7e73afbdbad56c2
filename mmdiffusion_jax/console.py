"""The command `mmdiffusion`: `mmdiffusion train --workdir=W …` is `python launch/train.py …`."""

import ast
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

import mmdiffusion_jax
from mmdiffusion_jax import errors, shipped

_USAGE = """\
mmdiffusion COMMAND [--flag=value …]

{commands}

`mmdiffusion COMMAND --help` lists the flags of a command. A config is named by its path, or, where
it is one of those that come with the package, by its name: --config={configs}.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the launch script that the first argument names, with the flags after it.

    Nothing but Python's own library is loaded before the script is.

    Args:
        arguments: in place of those of the command line.

    Raises:
        SystemExit: as the script ends; with one line about an unknown command, or a package that
            is not installed.

    Example:
        >>> main(["trane"])
        Traceback (most recent call last):
        ...
        SystemExit: error: `command`: got 'trane', expected one of ...; did you mean 'train'?
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        scripts = {file.stem: file for file in sorted(shipped.folder("launch").glob("*.py"))}
        if not words or words[0] in ("help", "--help", "-h"):
            print(_usage(scripts), end="")
            return
        if words[0] == "--version":
            print(mmdiffusion_jax.__version__)
            return
        command = words[0].replace("-", "_")
        if command not in scripts:
            raise errors.unknown("command", words[0], scripts)
        errors.check_installed(f"mmdiffusion {words[0]}")
    except (ValueError, ModuleNotFoundError) as error:
        sys.exit(f"error: {error}")
    script = str(scripts[command])
    sys.argv = [script, *words[1:]]
    runpy.run_path(script, run_name="__main__")


def _usage(scripts: dict[str, Path]) -> str:
    width = max(map(len, scripts))
    lines = []
    for name, file in scripts.items():
        text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
        lines.append(f"  {name:<{width}}  {text.partition(chr(10))[0]}")
    return _USAGE.format(commands="\n".join(lines), configs="digits, --config=image_label:small")
