"""Runs the notebooks beside it and stores their outputs: execute.py [NAME.ipynb …].

`make notebooks` runs all of them at their full size. What is stored is the same from run to run as
far as the figures are: no times, no versions, no progress bars. A digest of the code that was run
stands in a notebook's metadata, so that a test can tell code that was changed afterwards.
"""

import hashlib
import os
import re
import resource
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parent
SIZE = "MMDIFFUSION_NOTEBOOK_SIZE"
"""The environment variable that notebooks read: `small` in tests, else the full size."""

_ROOT = FOLDER.parents[1]
_BAR = re.compile(r"\d+%\||^\s*$")
# Of XLA, where a machine is so busy that compiling takes minutes.
_ALARM = re.compile(r"slow_operation_alarm|Very slow compile\?|^\*{20,}$")


def execute(notebook: nbformat.NotebookNode, folder: Path, size: str = "full") -> None:
    """Runs all cells of a notebook in a new kernel, which leaves their outputs in it.

    Args:
        notebook: changed in place, also where a cell fails.
        folder: in which the kernel starts.
        size: "small" or "full".

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
        ValueError: a cell wrote to the standard error anything but a progress bar.
    """
    path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        startup_timeout=600,
        timeout=None,
        resources={"metadata": {"path": str(folder)}},
    )
    client.record_timing = False
    client.execute(env={**os.environ, SIZE: size, "PYTHONPATH": path})
    normalise(notebook)


def normalise(notebook: nbformat.NotebookNode) -> None:
    """Leaves in a notebook what is the same from run to run, and the digest of its code.

    Raises:
        ValueError: a cell wrote to the standard error anything but a progress bar.
    """
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = _joined([x for x in cell.outputs if not is_progress(x)])
            for output in cell.outputs:
                output.get("data", {}).pop("image/jpeg", None)  # Pillow gives it beside the PNG
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
            "mmdiffusion_jax": {"code": digest(notebook)},
        }
    )


def digest(notebook: nbformat.NotebookNode) -> str:
    """The SHA-256 of the code of all cells, in their order."""
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return hashlib.sha256("\0".join(code).encode()).hexdigest()


def read(file: Path) -> nbformat.NotebookNode:
    """A notebook of version 4, checked against its format."""
    notebook = nbformat.read(file, as_version=4)
    nbformat.validate(notebook)
    return notebook


def is_progress(output: nbformat.NotebookNode) -> bool:
    """Whether an output is progress bars alone, and XLA's words on a busy machine.

    Raises:
        ValueError: it is of the standard error and has other lines.
    """
    if output.output_type != "stream" or output.name != "stderr":
        return False
    lines = re.split(r"[\r\n]", output.text)
    rest = [line for line in lines if not _BAR.search(line) and not _ALARM.search(line)]
    if rest:
        raise ValueError("a cell wrote to the standard error:\n" + "\n".join(rest))
    return True


def _joined(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """The outputs with what is printed in a row as one, as kernels cut it where they happen to."""
    joined: list[nbformat.NotebookNode] = []
    for output in outputs:
        if joined and joined[-1].output_type == output.output_type == "stream":
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


def main(names: list[str]) -> None:
    """Runs the named notebooks, or all, at their full size, and stores them.

    It prints the minutes of processor time that each took, and its size.
    """
    for file in [FOLDER / name for name in names] or sorted(FOLDER.glob("*.ipynb")):
        notebook, start = read(file), _seconds_of_kernels()
        execute(notebook, FOLDER)
        nbformat.write(notebook, file)
        minutes = (_seconds_of_kernels() - start) / 60
        size = file.stat().st_size / 1e6
        print(f"{file.name}: {minutes:.1f} minutes of processor time, {size:.2f} MB", flush=True)


def _seconds_of_kernels() -> float:
    """The processor time of all kernels that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main(sys.argv[1:])
