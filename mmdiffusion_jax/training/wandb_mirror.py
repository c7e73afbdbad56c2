"""Sends metrics and images of a run to Weights & Biases as well."""

import importlib
import json
import secrets
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from mmdiffusion_jax import errors, files

_FILE = "wandb.json"


class WandbMirror:
    """A run of Weights & Biases that gets what a `MetricWriter` writes, see `mirrored`.

    The run's id is kept in `<workdir>/wandb.json`, so that a resumed run is the same one there;
    steps that are repeated, with the same metrics, are dropped by Weights & Biases. A failure there
    is a warning, given once. Variables that Weights & Biases reads, such as WANDB_MODE=offline,
    have their effect.

    Args:
        project: its name.
        config: nested, shown with the run.

    Raises:
        ValueError: the package `wandb` is not installed.
    """

    def __init__(self, project: str, config: Mapping[str, Any]) -> None:
        try:
            self._wandb = importlib.import_module("wandb")
        except ImportError as error:
            raise errors.invalid(
                "wandb",
                f"{project!r}, and wandb cannot be imported ({error})",
                "the package wandb",
                "pip install wandb, or leave the flag out",
            ) from error
        self._project, self._config = project, dict(config)
        self._run: Any = None
        self._has_failed = False

    def open(self, workdir: Path) -> None:
        """Starts the run, or goes on with the one of this workdir."""
        self._try(lambda: self._open(workdir))

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Logs {name: value}."""
        if self._run is not None:
            self._try(lambda: self._run.log(dict(metrics), step=step))

    def write_image(self, step: int, name: str, image: np.ndarray) -> None:
        """Logs a picture (height, width, 3) uint8."""
        if self._run is not None:
            self._try(lambda: self._run.log({name: self._wandb.Image(image)}, step=step))

    def close(self, failed: bool) -> None:
        """Ends the run for now."""
        if self._run is not None:
            self._try(lambda: self._run.finish(exit_code=int(failed)))
            self._run = None

    def _open(self, workdir: Path) -> None:
        file = workdir / _FILE
        kept = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        if kept.get("project") != self._project:
            kept = {"project": self._project, "id": secrets.token_hex(4)}
            files.write_text(file, json.dumps(kept) + "\n")
        self._run = self._wandb.init(
            project=self._project,
            id=kept["id"],
            resume="allow",
            dir=tempfile.mkdtemp() if files.is_bucket(str(workdir)) else str(workdir),
            name=workdir.resolve().name,
            config=self._config,
        )

    def _try(self, call: Callable[[], Any]) -> None:
        try:
            call()
        except Exception as error:
            if not self._has_failed:
                logging.warning(
                    "Weights & Biases failed (%s: %s); training goes on, and metrics.jsonl has "
                    "everything.",
                    type(error).__name__,
                    error,
                )
            self._has_failed = True
