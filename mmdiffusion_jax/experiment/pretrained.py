"""What `config.init_from` names: a trained model whose parameters another one begins with."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import numpy as np
from absl import logging
from flax import traverse_util
from ml_collections import ConfigDict

from mmdiffusion_jax import errors, files, training
from mmdiffusion_jax.experiment.build import Experiment, build
from mmdiffusion_jax.experiment.settings import Settings
from mmdiffusion_jax.experiment.transfer import Transfer, match, table, with_layers
from mmdiffusion_jax.experiment.workdir import config_of, read_config

FILE = "init_from.md"
"""In a workdir: what its run began with, if that was another model's parameters."""

CHECKPOINTS = "checkpoints"
"""In a workdir: the checkpoints of its run."""

_ARGUMENT = "config.init_from"
_EXPECTED = "a workdir with a checkpoint, or a .safetensors file that launch/export.py wrote"
# What decides, beside parameters, what a model's numbers mean.
_MEANING = ("latent", "modalities", "primary", "formulation", "process", "backbone")
# Of these, what changes the numbers by their rounding at most.
_ROUNDING = ("backbone.dtype", "backbone.remat", "backbone.scan_layers")
_NOTHING = "–"


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A trained model that another one begins from.

    Attributes:
        about: what its parameters are and where they come from, in words.
        params: {name: array}, averaged and in host memory; a name is keys joined by "/".
        built: its experiment.
    """

    about: str
    params: Mapping[str, np.ndarray]
    built: Experiment

    def transfer(self, built: Experiment) -> Transfer:
        """Which of its parameters an experiment takes.

        Raises:
            ValueError: none at all.
        """
        model = shapes_of(built)
        inputs = (each.model.input_names() for each in (built, self.built))
        transfer = match(model, self._params_for(built), *inputs)
        if not transfer.taken:
            ours, theirs = next(iter(sorted(model))), next(iter(sorted(self.params)), "nothing")
            raise errors.invalid(
                _ARGUMENT,
                f"{self.about}, of which no name and shape is one of this model's "
                f"({theirs!r} there, {ours!r} here)",
                "a model that shares some",
                "begin from one with the same backbone, or leave it out",
            )
        return transfer

    def taken(self, built: Experiment) -> dict[str, np.ndarray]:
        """{name: array} of the parameters that an experiment takes, wholly or in part.

        Raises:
            ValueError: as `transfer`.
        """
        return self.transfer(built).apply(shapes_of(built), self._params_for(built))

    def warning(self, built: Experiment) -> str:
        """What of the source does not come over though parameters do, in a line; "" for nothing.

        These are settings by which the taken parameters may compute something else, and parameters
        that are left unused.
        """
        # What one alone has is of modalities that the other lacks, or of another kind that differs.
        changes = [
            f"{key} {here} ({there} there)"
            for key, there, here in _differences(self.built.settings, built.settings)
            if key not in _ROUNDING
            and (_NOTHING not in (there, here) or key.startswith("process.shares."))
        ]
        parts = []
        if changes:
            words = "what is taken may compute something else than in the source"
            parts.append(f"{words}, by {', '.join(changes)}")
        if left := self.transfer(built).left():
            parts.append(f"left unused: {', '.join(left)}")
        return f"{self.about}: {'; '.join(parts)}." if parts else ""

    def report(self, built: Experiment) -> str:
        """What an experiment takes and what not, in Markdown."""
        transfer = self.transfer(built)
        settings = _differences(self.built.settings, built.settings)
        tables = (
            table(("modality", "encodings"), self._encodings(built, transfer)),
            table(("setting", "in the source", "here"), settings),
            table(("parameters", "numbers", "began as"), transfer.rows()),
        )
        words = f"{self.about}: {transfer.count()}. The optimiser, the averages and the step began "
        words += "anew, from these parameters."
        return "\n\n".join(part for part in ("# What this run began with", words, *tables) if part)

    def _params_for(self, built: Experiment) -> Mapping[str, np.ndarray]:
        """Its parameters, with the blocks stacked where the experiment's are, and else not."""
        ours, theirs = (
            getattr(each.model.backbone, "scan_layers", False) for each in (built, self.built)
        )
        return self.params if ours == theirs else with_layers(self.params, ours)

    def _encodings(self, built: Experiment, transfer: Transfer) -> list[tuple[str, str]]:
        sources = dict(self.built.model.modalities)
        rows = []
        for name, modality in sorted(built.model.modalities.items()):
            source = sources.pop(name, None)
            read = {"/".join(path) for path in encoder_paths(built, name)}
            words = "as in the source, bit for bit"
            if source is None:
                words = "new"
            elif type(source) is not type(modality):
                words = f"new, as the source's is a {type(source).__name__}"
            elif source.encoder_fields != modality.encoder_fields:
                words = "others than in the source, by the settings below"
            elif not read <= set(transfer.taken):
                words = "new"
            rows.append((name, words))
        return rows + [(name, "of the source alone") for name in sorted(sources)]


def open_pretrained(built: Experiment, workdir: str | Path) -> Pretrained | None:
    """The model that `config.init_from` names, or None where a run needs none.

    A run that has a checkpoint needs none: it went on from there, and the source may be gone. What
    does not come over from the source is a warning (`Pretrained.warning`).

    Args:
        built: the experiment.
        workdir: its folder.

    Raises:
        ValueError: a source that is missing, damaged, without a checkpoint or of another version,
            the workdir itself, or one of which no parameter fits.
    """
    place = built.settings.init_from
    if not place or _steps(files.to_path(workdir)):
        return None
    if files.same_place(place, workdir):
        raise errors.invalid(_ARGUMENT, place, "another folder than the workdir", "name a new one")
    pretrained = read_pretrained(place)
    if words := pretrained.warning(built):
        logging.warning("%s", words)
    return pretrained


def read_pretrained(place: str | Path) -> Pretrained:
    """Reads the averaged parameters of a workdir or an exported file.

    Those of a workdir are of its newest checkpoint, and are the average that samples of it are
    drawn with: of `training.ema_decay`, or that of `training.ema_widths` which its evaluation
    chose.

    Raises:
        ValueError: it is missing, damaged, without a checkpoint or of another version.
    """
    path = files.to_path(place, _ARGUMENT)
    if path.is_dir():
        return _read_workdir(path)
    if path.is_file() and path.suffix == ".safetensors":
        params, about = training.read_safetensors(path, _ARGUMENT)
        built = _build(path, lambda: config_of(about.get("config") or {}))
        flat = traverse_util.flatten_dict(params, sep="/")
        return Pretrained(f"The exported averaged parameters in {path}", flat, built)
    got = f"{place}, which is no such file" if path.exists() else f"{place}, which is not there"
    raise errors.invalid(_ARGUMENT, got, _EXPECTED, "correct the path")


def shapes_of(built: Experiment) -> dict[str, jax.ShapeDtypeStruct]:
    """{name: shape and dtype} of a model's parameters; a name is keys joined by "/"."""
    return traverse_util.flatten_dict(built.param_shapes, sep="/")


def encoder_paths(built: Experiment, name: str) -> tuple[tuple[str, ...], ...]:
    """The paths of the parameters that the encoder of a modality reads, sorted."""
    read = jax.eval_shape(
        lambda x: built.model.init(jax.random.key(0), name, x, method="encode"), built.blank(name)
    )
    return tuple(sorted(traverse_util.flatten_dict(read.get("params", {}))))


def _steps(workdir: Path) -> list[int]:
    with training.Checkpoints(workdir / CHECKPOINTS, read_only=True) as checkpoints:
        return checkpoints.steps()


def _read_workdir(path: Path) -> Pretrained:
    if not (path / "config.json").exists():
        raise errors.invalid(
            _ARGUMENT, f"{path}, which has no config.json", _EXPECTED, "name the folder of a run"
        )
    built = _build(path, lambda: read_config(path))
    try:
        with training.Checkpoints(path / CHECKPOINTS, read_only=True) as checkpoints:
            restored = checkpoints.restore_part(training.TrainState.averaged_path)
    # A step that another version wrote may fail in any way.
    except Exception as error:
        raise errors.invalid(
            _ARGUMENT,
            f"{path}, whose checkpoints cannot be read ({_first_line(error)})",
            _EXPECTED,
            "bring one back from a copy; where another version wrote them, export them with that",
        ) from error
    if restored is None:
        raise errors.invalid(
            _ARGUMENT, f"{path}, which has no checkpoint", _EXPECTED, "train there first"
        )
    part = training.TrainState.averaged_path(restored.position)
    if not restored.state:
        raise errors.invalid(
            _ARGUMENT,
            f"{path}, whose checkpoint of step {restored.step} has nothing under {part!r}",
            "one with averaged parameters",
            "export it with the version that wrote it",
        )
    about = f"The averaged parameters ({part}) of step {restored.step} of {path}"
    return Pretrained(about, restored.state, built)


def _build(path: Path, read: Callable[[], ConfigDict]) -> Experiment:
    """The experiment of a source, whose config `read` reads."""
    try:
        return build(read())
    except ValueError as error:
        raise errors.invalid(
            _ARGUMENT,
            f"{path}, whose config this version cannot read ({_first_line(error)})",
            "a config of this version or an earlier one",
            "correct that in a copy and begin from the copy, or use the version that wrote it",
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).split("\n")[0] or type(error).__name__).removesuffix(".")


def _differences(source: Settings, ours: Settings) -> list[tuple[str, str, str]]:
    """(key, value of the source, value here) of what gives parameters their meaning."""
    theirs, here = (
        traverse_util.flatten_dict(
            {key: value for key, value in settings.to_dict().items() if key in _MEANING}, sep="."
        )
        for settings in (source, ours)
    )
    return [
        (key, str(theirs.get(key, _NOTHING)), str(here.get(key, _NOTHING)))
        for key in sorted({*theirs, *here})
        if theirs.get(key) != here.get(key)
    ]
