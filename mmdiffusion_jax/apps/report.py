"""Writes the page of a run or of a comparison."""

from pathlib import Path

from absl import logging

from mmdiffusion_jax import errors, files
from mmdiffusion_jax import report as pages


def report(workdir: str, out: str | None = None) -> Path:
    """Writes the page of a run or of a comparison, also of one of an earlier version.

    Training and comparing keep the page up to date by themselves. The folder is only read but for
    the page, which is written whole or not at all.

    Args:
        workdir: of a run or of `launch/compare.py`.
        out: the file, *.html, in place of `report.html` in the workdir.

    Returns:
        The file.

    Raises:
        ValueError: a folder that holds neither, or a file that cannot be written.
        OSError: a file cannot be read.
    """
    file = None if out is None else files.writable_file(out, "out", suffix=".html")
    folder = files.to_path(workdir, "workdir")
    if not pages.is_comparison(folder) and not pages.is_run(folder):
        raise errors.invalid(
            "workdir",
            str(folder),
            "the folder of a run or of a comparison",
            "name the --workdir of launch/train.py or launch/compare.py",
        )
    file = file or files.writable_file(folder / pages.FILE, "workdir")
    pages.write(folder, file)
    logging.info("The page is %s.", file)
    return file
