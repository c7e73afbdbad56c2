"""The data of an experiment, checked against its modalities."""

import functools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from mmdiffusion_jax import data, errors, metrics, ranges
from mmdiffusion_jax.experiment.build import build
from mmdiffusion_jax.experiment.checks import check_opened, check_source, present_values
from mmdiffusion_jax.experiment.contents import data_digests
from mmdiffusion_jax.experiment.sections.reading import under
from mmdiffusion_jax.modalities import Modality

_MOVED = (
    "If the data of a workdir have moved, name the new places: launch/train.py takes "
    "--config.data.train=FILE and --config.data.test=FILE, and the workdir keeps them; what reads "
    "a workdir takes --data_train=FILE and --data_test=FILE."
)


class Splits(NamedTuple):
    """The data of an experiment.

    Attributes:
        train: what is trained on, without what `data.held_out` holds out.
        test: what a trained model is judged on.
        validation: what evaluations while training take: what is held out, or the test split.
    """

    train: data.Source
    test: data.Source
    validation: data.Source


def open_data(config: ConfigDict, whole: bool = False) -> tuple[data.Source, data.Source]:
    """The training and the test split, as `open_splits` opens them."""
    splits = open_splits(config, whole)
    return splits.train, splits.test


def open_splits(config: ConfigDict, whole: bool = False) -> Splits:
    """Opens the splits of an experiment, and checks them; the digits are prepared first.

    Images of a latent modality are encoded once, into `latents` in the data's folder, and embedded
    once by the large network of `data.embedder`, into `embeddings`, see `data.cache_latents`;
    modalities that are derived from a column are added, see `data.Derived`.

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
        if section.source not in data.SMALL_SETS:
            source = _sized(source, tuple(section.size), modalities, split)
        source = _add_embeddings(source, config, modalities, split)
        for name, modality in modalities.items():
            if name not in source.columns:
                continue
            if encoder := modality.column_encoder(source.columns[name][1]):
                _check_pixels(source, name, modality, split)
                caches = Path(section.folder) / "latents"
                identity = encoder.identity + _contents(config, split)
                source = data.cache_latents(source, name, encoder.encode, identity, caches)
        plain = source
        source = add_derived(source, modalities, split, config.seed)
        check_source(source, modalities, split)
        if split == "train":
            if section.held_out:
                with under("config.data"):
                    source, held_out = _hold_out(source, section.held_out, modalities)
            for name in section.portions:
                ranges.check_one_of("config.data.portions", name, source.columns)
            with under("config.data"):
                mirror(plain, modalities, section.mirrored)
                for seed, name in enumerate(sorted(kept)):
                    source = _keep(source, name, kept[name], seed)
        opened.append(source)
    train, test = opened
    return Splits(train, test, held_out if section.held_out else test)


def mirror(
    source: data.Source, modalities: Mapping[str, Modality], names: Sequence[str]
) -> data.Source:
    """Adds the mirror images of all examples, see `data.Mirrored`.

    Args:
        source: the examples, without what is drawn from their columns.
        modalities: {name: modality}.
        names: of the columns that are mirrored.

    Raises:
        ValueError: a column that cannot be mirrored, or one without another that the data hold and
            that is derived from it.
    """
    for name, modality in modalities.items():
        if name in source.columns and name not in names and modality.derived_from in names:
            raise errors.invalid(
                "mirrored",
                f"{modality.derived_from!r} without {name!r}, a column of the data that is derived "
                "from it",
                "both, which are then mirrored together",
                f"add {name!r}, or leave the column out of the data to have it drawn",
            )
    return data.Mirrored(source, names)


def _hold_out(
    source: data.Source, share: float, names: Iterable[str]
) -> tuple[data.Source, data.Source]:
    """The examples that are trained on, and a share that is not; what is derived is drawn anew.

    Raises:
        ValueError: a share that leaves either part empty, or training without any example of one of
            these modalities.
    """
    count = len(source)
    if not 0 < round(count * share) < count:
        raise errors.invalid(
            "held_out",
            share,
            f"a share of the {count} training examples that leaves neither part empty",
            "choose another, or 0 to evaluate on the test split while training",
        )

    def part(index: int) -> data.Source:
        return data.beneath(source, lambda plain: data.split_off(plain, share, seed=0)[index])

    rest, held_out = part(0), part(1)
    for name in sorted(names):
        if name in rest.columns and not len(data.rows_with(rest, [name], 1)):
            raise errors.invalid(
                "held_out",
                share,
                f"a share that leaves training an example with {name!r}",
                "lower it",
            )
    return rest, held_out


def _keep(source: data.Source, name: str, count: int, seed: int) -> data.Source:
    """Hides a modality in all examples but `count`; what is derived is still drawn anew.

    Each modality has a seed of its own, so that two of them are not kept by the same examples.

    Raises:
        ValueError: a modality that is derived from another.
    """
    if isinstance(source, data.Derived) and name in source.derivations:
        raise errors.invalid(
            f"kept.{name}",
            f"a modality that is drawn from {source.derivations[name][0]!r}, and never scarce",
            "a modality that the data hold",
            "leave it out",
        )
    return data.beneath(source, lambda plain: data.Kept(plain, name, count, seed))


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


def _sized(
    source: data.Source, size: tuple[int, int], modalities: Mapping[str, Modality], split: str
) -> data.Source:
    """Brings the images and the masks of arrays to a size, if they have another."""
    origins = {modality.derived_from for modality in modalities.values()}
    images, masks = [], {}
    for name, (shape, dtype) in source.columns.items():
        modality = modalities.get(name)
        if not any(size) or (shape[:2] == size and len(shape) == 3) or dtype.kind not in "iu":
            continue
        if modality is not None and modality.mask_fill is not None:
            if len(shape) == 2 and shape != size:
                masks[name] = modality.mask_fill
        elif len(shape) in (2, 3) and (name in origins or _is_picture(modality, dtype)):
            images.append(name)
    if not images and not masks:
        return source
    if not isinstance(source, data.ArraySource):
        raise errors.invalid(
            "config.data.size",
            size,
            f"(0, 0), or the size of {split} data that are not held in memory",
            "prepare them again with launch/prepare.py --size",
        )
    with under("config.data"):
        return data.resized(source, size, images, masks)


def _is_picture(modality: Modality | None, dtype: np.dtype) -> bool:
    """Whether a column of a modality is images, that are diffused or encoded first."""
    if modality is None or modality.is_partial_view:
        return False
    return modality.is_image or modality.column_encoder(dtype) is not None


def _check_pixels(source: data.Source, name: str, modality: Modality, split: str) -> None:
    """Checks the images of a modality, before a network takes minutes to encode them."""
    encoder = modality.column_encoder(source.columns[name][1])
    if encoder is None:
        check_source(source, {name: modality}, split)
        return
    for _, values in present_values(source, {name: modality}):
        encoder.validate(f"{split} data, {name}", values)


def _add_embeddings(
    source: data.Source, config: ConfigDict, modalities: Mapping[str, Modality], split: str
) -> data.Source:
    """Adds the features of the primary's images by the network of `data.embedder`, as unit vectors.

    Those of a large network are computed once and kept on disk.

    Raises:
        ValueError: a primary that is no image, latents in the place of images, or a network of
            another width.
    """
    missing = [
        name
        for name, modality in modalities.items()
        if modality.is_embedding and name not in source.columns
    ]
    if not missing or not config.data.embedder or config.primary not in source.columns:
        return source
    if not _is_picture(modalities[config.primary], source.columns[config.primary][1]):
        raise errors.invalid(
            "config.data.embedder",
            f"{config.data.embedder!r} for {config.primary!r} of the {split} data, "
            "whose values are no images",
            "images, from which the network makes embeddings",
            f"store a column {missing[0]!r} with the data, or images in the place of latents",
        )
    with under("config.data"):
        network = metrics.read_embedder(config.data.embedder)
    for name in missing:
        _check_width(name, modalities[name], network)
    if isinstance(network, metrics.EfficientNetFeatures):
        _check_pixels(source, config.primary, modalities[config.primary], split)
        caches = Path(config.data.folder) / "embeddings"
        identity = f"unit {network.identity}{_contents(config, split)}"
        encode = functools.partial(_unit_features, network)
        for name in missing:
            source = data.cache_latents(source, config.primary, encode, identity, caches, into=name)
        return source
    if not isinstance(source, data.ArraySource):
        raise errors.invalid(
            "config.data.embedder",
            f"{config.data.embedder!r} for {split} data that are not held in memory",
            f"a column {missing[0]!r} in the data",
            "store the embeddings with the data",
        )
    columns = source.take(np.arange(len(source)))
    images = columns[config.primary]
    present = data.present(columns, [config.primary])
    unit = np.zeros((len(images), network.num_features), np.float32)
    unit[present] = _unit_features(network, images[present])
    masks = {} if present.all() else {f"{name}_present": present for name in missing}
    return data.ArraySource(
        {**columns, **dict.fromkeys(missing, unit), **masks}, name=f"{split} data"
    )


def _contents(config: ConfigDict, split: str) -> str:
    """What tells a user's own data from a corrected version of them, in an identity."""
    digests = data_digests(config)
    digest = digests.get(f"data.{split}") or digests.get("data.folder")
    return f" of {digest}" if digest else ""


def _unit_features(network: metrics.Embedder, images: np.ndarray) -> np.ndarray:
    features = network.features(images.astype(np.uint8) if images.dtype.kind in "iu" else images)
    return features / np.linalg.norm(features, axis=1, keepdims=True).clip(1e-12)


def _check_width(name: str, modality: Modality, network: metrics.Embedder) -> None:
    """Checks that a modality takes as many numbers as the network gives, before it is run."""
    (dims,), _ = modality.columns
    if dims != network.num_features:
        raise errors.invalid(
            f"config.modalities.{name}.dims",
            dims,
            f"{network.num_features}, as many as config.data.embedder gives",
            "change it, or choose another embedder",
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
