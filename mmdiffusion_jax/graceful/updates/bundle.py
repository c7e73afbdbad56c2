"""A deployed model in one file: parameters, class prototypes and fingerprints of its encoders."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from mmdiffusion_jax import errors, experiment, ranges
from mmdiffusion_jax.experiment import contents
from mmdiffusion_jax.graceful.updates.fingerprints import Encoder, fingerprint
from mmdiffusion_jax.training import read_safetensors, write_safetensors

_KIND = "graceful bundle"
_FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Bundle:
    """A deployed model, as training and comparing a successor need it.

    Attributes:
        built: its experiment.
        params: its averaged parameters.
        encoders: {modality: identity of its encoder}.
        prototypes: {modality: (classes, …)}, mean directions of stored latents by class.
        embedder: `embedder_digest` of it, empty where that is not known.
    """

    built: experiment.Experiment
    params: Any
    encoders: Mapping[str, Encoder]
    prototypes: Mapping[str, np.ndarray]
    embedder: str = ""

    def known_batch(
        self, values: Mapping[str, jax.Array], masks: Mapping[str, jax.Array]
    ) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
        """The values {name: (batch, …)} and masks {name: (batch,)} of the model's modalities.

        Classes that the model lacks count as absent.
        """
        known, present = {}, {}
        for name, modality in self.built.model.modalities.items():
            known[name], fits = modality.readable(values[name])
            present[name] = masks.get(name, True) * fits
        return known, present


def encoder_of(
    built: experiment.Experiment, params: Any, name: str, compatible_with: tuple[str, ...] = ()
) -> Encoder:
    """Identifies the encoder of one modality by its kind, and the parameters and fields it reads.

    Args:
        built: the experiment.
        params: of its model.
        name: the modality.
        compatible_with: fingerprints of the encoders that it was trained to be compatible with.

    Raises:
        ValueError: an unknown modality, or one whose `encoder_fields` are not of JSON's types.
    """
    ranges.check_one_of("name", name, built.model.modalities)
    modality = built.model.modalities[name]
    flat = traverse_util.flatten_dict(params)
    about = {"kind": type(modality).__name__, "fields": modality.encoder_fields}
    encoder = {"/".join(path): flat[path] for path in experiment.encoder_paths(built, name)}
    return Encoder(fingerprint(encoder, about), compatible_with)


def embedder_digest(built: experiment.Experiment) -> str:
    """The digest of the weights of `data.embedder`, as `experiment.data_digests` gives it.

    It is empty where no modality is an embedding, no embedder is set, or its file is not there.
    """
    if not any(x.is_embedding for x in built.model.modalities.values()):
        return ""
    return contents.embedder_digest(built.settings.data.embedder)


def freeze(
    built: experiment.Experiment,
    params: Any,
    prototypes: Mapping[str, np.ndarray] | None = None,
    compatible_with: Mapping[str, tuple[str, ...]] | None = None,
) -> Bundle:
    """Makes the bundle of a model that is about to be replaced.

    Args:
        built: the experiment.
        params: its averaged parameters.
        prototypes: {modality: (classes, …)}, such as `class_prototypes` gives of stored latents.
        compatible_with: {modality: fingerprints of the encoders that its encoder was trained to be
            compatible with}.

    Raises:
        ValueError: parameters of another experiment, or an unknown modality.
    """
    built.check_params("params", params)
    for argument, given in (("prototypes", prototypes), ("compatible_with", compatible_with)):
        for name in given or {}:
            ranges.check_one_of(argument, name, built.model.modalities)
    encoders = {
        name: encoder_of(built, params, name, tuple((compatible_with or {}).get(name, ())))
        for name in built.model.modalities
    }
    return Bundle(built, params, encoders, dict(prototypes or {}), embedder_digest(built))


def write_bundle(path: str | os.PathLike[str], bundle: Bundle) -> None:
    """Writes a bundle as one `.safetensors` file, all of it or nothing."""
    about = {
        "kind": _KIND,
        "format": _FORMAT,
        "config": bundle.built.settings.to_dict(),
        "encoders": {name: dataclasses.asdict(x) for name, x in bundle.encoders.items()},
        "embedder": bundle.embedder,
    }
    tensors = {"params": bundle.params, "prototypes": dict(bundle.prototypes)}
    write_safetensors(path, tensors, about)


def read_bundle(path: str | os.PathLike[str]) -> Bundle:
    """Reads a bundle and checks that this code makes the encoders with the same fingerprints.

    Raises:
        ValueError: a file that is missing, damaged or no bundle, a format or parameters of other
            code, or encoders whose fingerprints are not those in the file.
    """
    tensors, about = read_safetensors(path)
    shown = repr(os.fspath(path))
    if about.get("kind") != _KIND or about.get("format") != _FORMAT:
        raise errors.invalid(
            "path",
            f"{shown}, kind {about.get('kind')!r}, format {about.get('format')!r}",
            f"a {_KIND} of format {_FORMAT}",
            "freeze the deployed model with this version",
        )
    built = experiment.build(experiment.config_of(about["config"]))
    params = tensors["params"]
    built.check_params("path", params)
    encoders = {
        name: Encoder(given["fingerprint"], tuple(given["compatible_with"]))
        for name, given in about["encoders"].items()
    }
    for name, encoder in encoders.items():
        now = encoder_of(built, params, name)
        if now.fingerprint != encoder.fingerprint:
            raise errors.invalid(
                "path",
                f"{shown}, whose encoder of {name!r} was {encoder.fingerprint}",
                f"{now.fingerprint}, as this code makes it",
                "read it with the version that wrote it, or freeze the model anew",
            )
    # Files of earlier versions do not say it.
    embedder = about["embedder"] if "embedder" in about else embedder_digest(built)
    return Bundle(built, params, encoders, tensors.get("prototypes", {}), embedder)
