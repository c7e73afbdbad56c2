"""Opens a trained model: a workdir, or a file that was exported from one."""

import os

import jax
from ml_collections import ConfigDict

from mmdiffusion_jax import apps, errors, experiment, files
from mmdiffusion_jax.trained.model import Model


def load(
    path: str | os.PathLike[str], checkpoint: str = "newest", device: jax.Device | None = None
) -> Model:
    """Opens a trained model.

    Args:
        path: the workdir of a run, whose averaged parameters are read, or a `.safetensors` file
            that `mmdiffusion export` wrote.
        checkpoint: of a workdir, "newest", or "best" of a run with `training.best_metric`.
        device: where the model computes; left out, JAX's first local device.

    Returns:
        The model.

    Raises:
        ValueError: nothing at this place; no experiment or no such checkpoint in a folder; a
            damaged file; or what another version of the package has written, with what to do.

    Example:
        >>> load("nowhere")
        Traceback (most recent call last):
        ...
        ValueError: `path`: got 'nowhere', where there is nothing, expected the workdir of a run ...
    """
    place = files.to_path(path, "path")
    if place.is_dir():
        with apps.quiet():
            config, built, params = apps.load(str(place), checkpoint=checkpoint)
    elif place.is_file():
        if checkpoint != "newest":
            raise errors.invalid(
                "checkpoint",
                f"{checkpoint!r} with the file {place}",
                "nothing, as a file holds one checkpoint",
                "leave it out, or name the workdir",
            )
        config, built, params = apps.load_export(place)
        device = jax.local_devices()[0] if device is None else device
    else:
        raise errors.invalid(
            "path",
            f"{str(path)!r}, where there is nothing",
            "the workdir of a run or an exported file *.safetensors",
            "mend the path, or train there first",
        )
    return Model(config, built, params if device is None else jax.device_put(params, device))


def untrained(config: ConfigDict | str, seed: int = 0) -> Model:
    """A model with fresh parameters, to try a config's shapes, times and memory before training.

    Args:
        config: an experiment's, or the FILE, FILE:FORM or NAME of one, see
            `experiment.read_config_file`.
        seed: of the parameters.

    Raises:
        ValueError: a bad config.

    Example:
        >>> untrained("smoke")
        Model(image: (8, 8, 1) integer, the primary; label: () integer)
    """
    read = experiment.read_config_file(config) if isinstance(config, str) else config
    built = experiment.build(read)
    return Model(read, built, jax.jit(built.init)(jax.random.key(seed)))
