"""The data of an experiment, checked against its modalities."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from mmdiffusion_jax import data, errors, metrics, ranges
from mmdiffusion_jax.experiment.build import build
from mmdiffusion_jax.experiment.checks import check_opened, check_source, present_values
from mmdiffusion_jax.experiment.sections.reading import under
from mmdiffusion_jax.modalities import Modality

_MOVED = (
    "If the data of a workdir have moved, name the new places: launch/train.py takes "
    "--config.data.train=FILE and --config.data.test=FILE, and the workdir keeps them; what reads "
    "a workdir takes --data_train=FILE and --data_test=FILE."
)


def open_data(config: ConfigDict, whole: bool = False) -> tuple[data.Source, data.Source]:
    """Opens the training and the test split, and checks them; the digits are prepared first.

    Images of a latent modality are encoded once, into `latents` in the data's folder, see
    `data.cache_latents`; modalities that are derived from a column are added, see `data.Derived`.

    With `whole`, nothing is hidden from the training split that `data.kept` hides.

    Raises:
        ValueError: data that are missing, damaged, or do not fit the modalities.
    """
    modalities = build(config).model.modalities
    kept = {} if whole else config.data.kept
    section = config.data
    digits = data.digits.open_splits(section.folder) if section.source == "digits" else {}
    opened = []
    for split in ("train", "test"):
        source = _open(section, section[split], digits)
        check_opened(source, modalities, split)
        for name, modality in modalities.items():
            if name not in source.columns:
                continue
            if encoder := modality.column_encoder(source.columns[name][1]):
                for _, values in present_values(source, {name: modality}):
                    encoder.validate(f"{split} data, {name}", values)
                caches = Path(section.folder) / "latents"
                source = data.cache_latents(source, name, encoder.encode, encoder.identity, caches)
        source = _add_embeddings(source, config, modalities, split)
        source = add_derived(source, modalities, split, config.seed)
        check_source(source, modalities, split)
        for name in section.portions if split == "train" else ():
            ranges.check_one_of("config.data.portions", name, source.columns)
        for name in sorted(kept if split == "train" else ()):
            with under("config.data"):
                source = data.Kept(source, name, kept[name])
        opened.append(source)
    return opened[0], opened[1]


def _open(section: ConfigDict, split: str, digits: Mapping[str, data.Source]) -> data.Source:
    if section.source == "digits":
        ranges.check_one_of("config.data", split, digits)
        return digits[split]
    if section.source == "npz":
        try:
            return data.open_npz(split, Path(section.folder) / "unpacked")
        except ValueError as error:
            if Path(split).exists():
                raise
            raise ValueError(f"{error} {_MOVED}") from error
    if section.source in data.SMALL_SETS:
        options = {"spectrogram": section.spectrogram} if section.source == "spoken_digits" else {}
        return data.SMALL_SETS[section.source](section.path, split, tuple(section.size), **options)
    return data.open_tfds(section.folder, split)


def _add_embeddings(
    source: data.Source, config: ConfigDict, modalities: Mapping[str, Modality], split: str
) -> data.Source:
    """Adds the features of the primary by the network in `data.embedder`, as unit vectors."""
    missing = [
        name
        for name, modality in modalities.items()
        if modality.is_embedding and name not in source.columns
    ]
    if not missing or not config.data.embedder:
        return source
    if not isinstance(source, data.ArraySource):
        raise errors.invalid(
            "config.data.embedder",
            f"{config.data.embedder!r} for {split} data that are not held in memory",
            f"a column {missing[0]!r} in the data",
            "store the embeddings with the data",
        )
    columns = source.take(np.arange(len(source)))
    network = metrics.SmallClassifier.load(config.data.embedder)
    images = columns[config.primary]
    present = data.present(columns, [config.primary])
    shown = images[present]
    features = network.features(shown.astype(np.uint8) if shown.dtype.kind in "iu" else shown)
    unit = np.zeros((len(images), features.shape[1]), features.dtype)
    unit[present] = features / np.linalg.norm(features, axis=1, keepdims=True).clip(1e-12)
    masks = {} if present.all() else {f"{name}_present": present for name in missing}
    return data.ArraySource(
        {**columns, **dict.fromkeys(missing, unit), **masks}, name=f"{split} data"
    )


def add_derived(
    source: data.Source, modalities: Mapping[str, Modality], split: str, seed: int
) -> data.Source:
    """Adds the columns that modalities derive from others; one that the data holds stays.

    Raises:
        ValueError: naming split and modality, if the column to derive from is not there.
    """
    derivations = {}
    for name, modality in modalities.items():
        origin = modality.derived_from
        if origin is None or name in source.columns:
            continue
        if origin not in source.columns:
            mend = f"the modality {name!r} is derived from it"
            raise errors.unknown(f"{split} data", origin, source.columns, mend)
        derivations[name] = origin, modality.derive
    return data.Derived(source, derivations, seed) if derivations else source
