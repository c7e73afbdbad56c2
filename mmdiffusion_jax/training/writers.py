"""Writes metrics as JSON lines and to TensorBoard, and images as PNG to both."""

import contextlib
import contextvars
import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, Self

import jax
import numpy as np

from mmdiffusion_jax import errors, files


class Mirror(Protocol):
    """A further tracker of what a `MetricWriter` writes; it must not raise."""

    def open(self, workdir: Path) -> None:
        """Called when a writer is made, in the process that writes."""

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Gets {name: value}."""

    def write_image(self, step: int, name: str, image: np.ndarray) -> None:
        """Gets a picture (height, width, 3) uint8."""

    def close(self, failed: bool) -> None:
        """Called when the writer is closed; `failed` says whether an error closed it."""


_mirror: contextvars.ContextVar[Mirror | None] = contextvars.ContextVar("mirror", default=None)


@contextlib.contextmanager
def mirrored(mirror: Mirror) -> Iterator[None]:
    """Sends what writers that are opened in a block write to another tracker as well.

    Example:
        >>> import tempfile
        >>> class Printer:
        ...     def open(self, workdir):
        ...         print("open")
        ...     def write(self, step, metrics):
        ...         print(step, dict(metrics))
        ...     def close(self, failed):
        ...         print("failed" if failed else "closed")
        >>> with mirrored(Printer()), MetricWriter(tempfile.mkdtemp()) as writer:
        ...     writer.write(10, {"train/loss": 0.5})
        open
        10 {'train/loss': 0.5}
        closed
    """
    token = _mirror.set(mirror)
    try:
        yield
    finally:
        _mirror.reset(token)


class MetricWriter:
    """Writes scalars and images of a run into its work folder; use it as a context manager.

    The scalars go to `<workdir>/metrics.jsonl`, one JSON object a line, and to TensorBoard in
    `<workdir>/tensorboard`, in a bucket once a minute; the images go to `<workdir>/samples` and to
    TensorBoard, and all of it to another tracker where `mirrored` names one. In a run of several
    processes only process 0 writes, and the calls of the others do nothing.

    A run that resumes from step k repeats the steps after k. Their lines of the interrupted run are
    dropped first, with a last line that is not complete.

    Args:
        workdir: the folder of the run; made when missing.
        resume_step: the step k that the run resumes from, 0 for a run from the start.

    Raises:
        ValueError: if `resume_step` is negative, or `metrics.jsonl` has a broken line before its
            last.

    Example:
        >>> import tempfile
        >>> workdir = tempfile.mkdtemp()
        >>> with MetricWriter(workdir) as writer:
        ...     writer.write(10, {"train/loss": 0.5, "train/label/loss": 0.25})
        >>> read_metrics(f"{workdir}/metrics.jsonl")
        [{'step': 10, 'train/loss': 0.5, 'train/label/loss': 0.25}]
    """

    def __init__(self, workdir: str | os.PathLike[str], resume_step: int = 0) -> None:
        if resume_step < 0:
            raise errors.invalid("resume_step", resume_step, "0 or more", "use 0 for a fresh run")
        self._workdir = files.to_path(workdir, "workdir")
        self._writes = jax.process_index() == 0
        if not self._writes:
            return
        self._workdir.mkdir(parents=True, exist_ok=True)
        file = self._workdir / "metrics.jsonl"
        known = _whole_lines(file) if file.exists() else []
        kept = [text + b"\n" for text, line in known if line["step"] <= resume_step]
        self._lines = files.LineWriter(file, kept)
        self._purge_step = resume_step + 1
        self._events: _Events | None = None
        self._mirror = _mirror.get()
        if self._mirror is not None:
            self._mirror.open(self._workdir)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.close(failed=error is not None)

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Appends one line of scalars; several lines may share a step.

        JSON has no number that is not finite: such a value is written as the string "nan", "inf"
        or "-inf", and `read_metrics` turns it back.

        Args:
            step: the step the scalars belong to.
            metrics: a value for each name, such as `train/loss`; a scalar array counts as a
                value.

        Raises:
            ValueError: if a metric is named `step`, or a value is no single number.

        Example:
            >>> import pathlib, tempfile
            >>> workdir = tempfile.mkdtemp()
            >>> with MetricWriter(workdir) as writer:
            ...     writer.write(7, {"train/loss": float("nan")})
            >>> print(pathlib.Path(workdir, "metrics.jsonl").read_text(), end="")
            {"step": 7, "train/loss": "nan"}
        """
        if not self._writes:
            return
        if "step" in metrics:
            raise errors.invalid(
                "metrics", "'step'", "other names", "the line starts with the step"
            )
        values = {name: _number(name, value) for name, value in metrics.items()}
        shown = {
            name: value if math.isfinite(value) else str(value) for name, value in values.items()
        }
        self._lines.append(json.dumps({"step": int(step), **shown}, allow_nan=False) + "\n")
        self._tensorboard().scalars(step, values)
        if self._mirror is not None:
            self._mirror.write(step, values)

    def write_image(self, step: int, name: str, image: np.ndarray) -> None:
        """Writes one image as `<workdir>/samples/<name>_<step:08d>.png` and to TensorBoard.

        Args:
            step: the step the image belongs to.
            name: what the image shows; a `/` in it makes a folder.
            image: uint8 of shape (height, width, 3).

        Raises:
            ValueError: if `image` has another dtype or shape, or `name` leads out of the folder.

        Example:
            >>> import pathlib, tempfile
            >>> workdir = tempfile.mkdtemp()
            >>> with MetricWriter(workdir) as writer:
            ...     writer.write_image(7, "grid", np.zeros((2, 3, 3), np.uint8))
            >>> [path.name for path in pathlib.Path(workdir, "samples").iterdir()]
            ['grid_00000007.png']
        """
        if not self._writes:
            return
        image = np.asarray(image)
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3 or not image.size:
            raise errors.invalid(
                "image",
                f"{image.dtype} of shape {image.shape}",
                "uint8 of shape (height, width, 3)",
                "scale to 0..255, round and cast",
            )
        samples = (self._workdir / "samples").resolve()
        path = self.image_path(self._workdir, step, name)
        if not path.resolve().is_relative_to(samples):
            raise errors.invalid("name", name, "a path below `samples`", "leave out '..' and '/'")
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_png(path, image)
        self._tensorboard().image(step, name, image)
        if self._mirror is not None:
            self._mirror.write_image(step, name, image)

    @staticmethod
    def image_path(workdir: str | os.PathLike[str], step: int, name: str) -> Path:
        """The file that `write_image` writes.

        Example:
            >>> MetricWriter.image_path("w", 7, "grid").name
            'grid_00000007.png'
        """
        return files.to_path(workdir) / "samples" / f"{name}_{step:08d}.png"

    def flush(self) -> None:
        """Has every line written, before a checkpoint says that its steps are done."""
        if self._writes:
            self._lines.flush()

    def close(self, failed: bool = False) -> None:
        """Flushes and closes the files; the `with` block calls it.

        Args:
            failed: whether an error is the reason, for the other tracker.
        """
        if not self._writes:
            return
        try:
            with contextlib.closing(self._events) if self._events else contextlib.nullcontext():
                self._lines.close()
        finally:
            if self._mirror is not None:
                self._mirror.close(failed)

    def _tensorboard(self) -> "_Events":
        # Opened by what is written first, so that no run waits for its import before a step.
        if self._events is None:
            self._events = _Events(self._workdir / "tensorboard", self._purge_step)
        return self._events


class _Events:
    """A TensorBoard file that is written at once, so that its errors come where it is written.

    The writer that tensorboardX offers for this does it in a thread: a full disk ends the thread
    alone, and the run waits forever when the queue to it is full.
    """

    def __init__(self, folder: Path, purge_step: int) -> None:
        # Here, as it brings PyTorch with it where that is installed, which takes seconds.
        from tensorboardX import summary
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto import event_pb2

        self._summary, self._event = summary, event_pb2.Event
        folder.mkdir(exist_ok=True)
        self._folder = str(folder)
        self._copied = files.Copied(folder)
        # Its own names go by the second and the host, and would fall upon a file of before.
        self._writer = EventsWriter(str(self._copied.disk / "events"), f".{os.getpid()}")
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._append(step=purge_step, session_log=start)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Appends {name: value}."""
        for name, value in values.items():
            self._append(step=step, summary=self._summary.scalar(name, value))
        self._flush()

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        """Appends a picture (height, width, 3)."""
        self._append(step=step, summary=self._summary.image(name, image, dataformats="HWC"))
        self._flush()

    def close(self) -> None:
        """Flushes and closes the file."""
        with contextlib.closing(self._copied), files.naming(self._folder):
            self._writer.close()

    def _append(self, **fields: Any) -> None:
        with files.naming(self._folder):
            self._writer.write_event(self._event(wall_time=time.time(), **fields))

    def _flush(self) -> None:
        with files.naming(self._folder):
            self._writer.flush()
        self._copied.copy_if_due()


def read_metrics(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    r"""Reads the lines of a `metrics.jsonl`, with "nan", "inf" and "-inf" as floats again.

    A last line without its line break is left out: its writer was stopped, or is not done yet.

    Returns:
        One dict a line: `step`, and a float for each metric.

    Raises:
        ValueError: if a line before the last is no JSON object with a `step`.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp(), "metrics.jsonl")
        >>> _ = path.write_text('{"step": 1, "train/loss": "inf"}\n{"step": 2, "tra')
        >>> read_metrics(path)
        [{'step': 1, 'train/loss': inf}]
    """
    return [
        {name: float(value) if isinstance(value, str) else value for name, value in line.items()}
        for _, line in _whole_lines(files.to_path(path))
    ]


def _whole_lines(path: Path) -> list[tuple[bytes, dict[str, Any]]]:
    # A stopped machine can leave zero bytes or half a character at the end: read bytes, and leave
    # out the last line if it does not parse, even with its line break.
    raw = files.read_lines(path).split(b"\n")[:-1]
    lines = []
    for number, text in enumerate(raw, start=1):
        try:
            line = json.loads(text)
            whole = isinstance(line, dict) and isinstance(line.get("step"), int)
        except ValueError:
            whole = False
        if whole:
            lines.append((text, line))
        elif number < len(raw):
            raise errors.invalid(
                "path",
                f"line {number} of {path}, {text[:40]!r}",
                "a JSON object with a `step`",
                "mend or remove the line",
            )
    return lines


def _number(name: str, value: Any) -> float:
    try:
        return float(np.asarray(value).item())
    except (TypeError, ValueError) as error:
        raise errors.invalid(
            "metrics", f"{value!r} for {name!r}", "one number", "reduce it to a scalar first"
        ) from error
