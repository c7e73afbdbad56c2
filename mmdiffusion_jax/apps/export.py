"""Writes a trained experiment as one file, and reads it back."""

import os
from pathlib import Path
from typing import Any

import jax
from absl import logging
from ml_collections import ConfigDict

from mmdiffusion_jax import errors, experiment, files, training
from mmdiffusion_jax.apps.train import load


def export(workdir: str, out: str | os.PathLike[str], checkpoint: str = "newest") -> Path:
    """Writes the averaged parameters of a trained experiment, with its config, as `.safetensors`.

    Args:
        workdir: the experiment.
        out: the file, which is replaced.
        checkpoint: "newest" or "best".

    Returns:
        The file.

    Raises:
        ValueError: no experiment or no such checkpoint in `workdir`, or a file of another ending
            or that cannot be written.
    """
    file = files.writable_file(out, "out", suffix=".safetensors")
    config, _, params = load(workdir, checkpoint=checkpoint)
    training.write_safetensors(file, params, {"config": config.to_dict()})
    logging.info("%d parameters in %s.", sum(x.size for x in jax.tree.leaves(params)), file)
    return file


def load_export(
    path: str | os.PathLike[str],
) -> tuple[ConfigDict, experiment.Experiment, dict[str, Any]]:
    """The config, the experiment and the parameters from a file that `export` wrote.

    Raises:
        ValueError: a damaged file, or one of another version of the package, whose config or
            parameters are not what this one expects.
    """
    file = files.to_path(path, "path")
    params, about = training.read_safetensors(file)
    if "config" not in about:
        raise errors.invalid(
            "path",
            f"{str(file)!r}, which holds no config",
            "a file that launch/export.py wrote",
            "export the workdir to a file of its own",
        )
    with experiment.of_this_version("path", file):
        config = experiment.config_of(about["config"])
        built = experiment.build(config)
        built.check_params("parameters", params)
    return config, built, params
