"""From a folder of pictures to a TFDS data set of array_record files, which training reads."""

import csv
import dataclasses
import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmdiffusion_jax import errors, files
from mmdiffusion_jax.data.folder.examples import ExampleMaker, features_of, modified
from mmdiffusion_jax.data.folder.listing import SPLITS, Entry, Listing, list_folder
from mmdiffusion_jax.data.folder.options import FolderOptions
from mmdiffusion_jax.data.folder.pixels import VOID
from mmdiffusion_jax.data.folder.shards import (
    NAME,
    Shard,
    ShardRecord,
    check_classes,
    is_begun,
    make_shards,
    plan_shards,
    remove_progress,
    unreadable,
    whole_shards,
)
from mmdiffusion_jax.data.presence import SUFFIX

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

RECORD_FILE = "prepared.json"
"""In the folder of a data set: what it was made of; it is written when all the rest is there."""

SKIPPED_FILE = "skipped.csv"
"""Beside it, where files were left out: their paths and the reasons."""

# Other pictures under the same options, if the way from files to records changes.
_FORMAT = 1
# Options that do not change what is written.
_NOT_WRITTEN = ("folder", "masks", "labels", "captions", "strict")


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A data set that is there, for `open_tfds`.

    Attributes:
        folder: its folder.
        columns: the names of its features.
        counts: {split: examples}.
        class_names: of the labels, in the order of their numbers.
        num_mask_classes: one more than the highest number in the masks but 255, 0 without masks.
        missing: {"mask" or "label": how many pictures have none}, where it is not all or none.
        skipped: [(file, reason)] of unreadable files, which it lacks.
        others: {ending: how many files of other kinds were left alone}.
        are_grey: whether no picture has colours, by its format.
        num_small: pictures that were smaller than the size, and made larger.
    """

    folder: Path
    columns: tuple[str, ...]
    counts: Mapping[str, int]
    class_names: tuple[str, ...] = ()
    num_mask_classes: int = 0
    missing: Mapping[str, int] = dataclasses.field(default_factory=dict)
    skipped: Sequence[tuple[str, str]] = ()
    others: Mapping[str, int] = dataclasses.field(default_factory=dict)
    are_grey: bool = False
    num_small: int = 0


def prepare(options: FolderOptions, out: str) -> Prepared:
    """Writes a folder of pictures as a data set, at one size, for `config.data.source = "tfds"`.

    Pictures are read by all cores and written one after another, so memory does not grow with their
    number, but for that of their names and captions. Called again after it was killed, it goes on
    after the last whole file of 256 pictures, and what comes out is the same to the bit. A folder
    that is whole is left as it is; it has `RECORD_FILE`, which is written at the end.

    Args:
        options: the pictures, and what is made of them.
        out: the folder of the data set, new or empty or begun before.

    Returns:
        The data set.

    Raises:
        ValueError: bad options or bad files, see `list_folder`; a mask of another size than its
            picture, or with other numbers or colours than classes; no readable picture in a split;
            an unreadable file if strict; other files in `out`, or a place that cannot be written.
        OSError: the disk is full.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> from mmdiffusion_jax.data import open_tfds
        >>> with tempfile.TemporaryDirectory() as place:
        ...     photos = Path(place, "photos")
        ...     photos.mkdir()
        ...     for number in range(8):
        ...         Image.new("RGB", (9, 7), (number, 0, 0)).save(photos / f"{number}.png")
        ...     options = FolderOptions(str(photos), (4, 4), test_share=0.4)
        ...     prepared = prepare(options, f"{place}/data")
        ...     open_tfds(prepared.folder, "train").columns
        {'image': ((4, 4, 3), dtype('uint8'))}
    """
    folder = files.writable_folder(files.local_path(out, "out"), "out")
    recorded = _recorded(folder)
    listing = list_folder(options, folder)
    if options.strict and listing.unreadable:
        raise unreadable(listing.unreadable)
    features = features_of(options, listing)
    shards = _shards(options, listing, sorted(features))
    digest = hashlib.sha256("".join(shard.digest for shard in shards).encode()).hexdigest()
    if recorded and recorded.get("digest") != digest:
        raise errors.invalid(
            "out",
            f"{str(folder)!r}, made of other pictures or with other options",
            "a new folder, or the same pictures and options",
            "choose another, or remove it",
        )
    folder.mkdir(parents=True, exist_ok=True)
    with files.locked(folder, "out"):
        records = whole_shards(folder, shards, recorded.get("shards", {}))
        is_done = bool(recorded) and len(records) == len(shards)
        if not is_done:
            records = make_shards(
                folder, shards, records, ExampleMaker(options, features), options.strict
            )
        prepared = _summary(folder, listing, features, shards, records)
        _check(prepared, records, options.strict)
        if not is_done:
            _write_metadata(prepared, features, shards, records)
            described = {
                "digest": digest,
                "split": _split_words(options),
                "options": dataclasses.asdict(options),
                "class_names": listing.class_names,
                "shards": {file: dataclasses.asdict(record) for file, record in records.items()},
            }
            files.write_text(folder / RECORD_FILE, json.dumps(described, indent=1))
        remove_progress(folder)
    return prepared


def _recorded(folder: Path) -> dict[str, Any]:
    """What the record of a finished folder says; nothing where there is none.

    Raises:
        ValueError: a folder with other files, or a damaged record.
    """
    try:
        recorded = json.loads((folder / RECORD_FILE).read_text(encoding="utf-8"))
        return {"digest": str(recorded["digest"]), "shards": dict(recorded["shards"])}
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise errors.invalid(
            "out",
            f"{str(folder / RECORD_FILE)!r}, which cannot be read ({error})",
            "the record of a prepared folder",
            "remove the folder, or choose another",
        ) from error
    if folder.is_dir() and not is_begun(folder):
        others = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
        if others := [name for name in others if name != "lock"]:
            raise errors.invalid(
                "out",
                f"{str(folder)!r}, which holds {others[0]!r}",
                "a new or empty folder, or one that was begun before",
                "choose another",
            )
    return {}


def _shards(options: FolderOptions, listing: Listing, columns: Sequence[str]) -> list[Shard]:
    settings = {
        name: value
        for name, value in dataclasses.asdict(options).items()
        if name not in _NOT_WRITTEN
    }
    common = json.dumps([_FORMAT, settings, columns, listing.class_names])
    folder = files.local_path(options.folder, "folder")
    masks = files.local_path(options.masks, "masks") if options.masks else Path()

    def digest_of(entries: Sequence[Entry]) -> str:
        digest = hashlib.sha256(common.encode())
        for entry in entries:
            row = [*dataclasses.astuple(entry), *modified(entry, folder, masks)]
            digest.update(json.dumps(row).encode())
        return digest.hexdigest()

    return [
        shard for split in SPLITS for shard in plan_shards(split, listing.splits[split], digest_of)
    ]


def _summary(
    folder: Path,
    listing: Listing,
    features: "tfds.features.FeaturesDict",
    shards: Sequence[Shard],
    records: Mapping[str, ShardRecord],
) -> Prepared:
    entries = [entry for shard in shards for entry in shard.entries]
    missing = {
        "mask": sum(not entry.mask for entry in entries),
        "label": sum(entry.label < 0 for entry in entries),
    }
    counts = dict.fromkeys(SPLITS, 0)
    for shard in shards:
        counts[shard.split] += records[shard.file].count
    numbers = {number for record in records.values() for number in record.classes} - {VOID}
    skipped = [(file, reason) for shard in shards for file, reason in records[shard.file].skipped]
    return Prepared(
        folder=folder,
        columns=tuple(sorted(features)),
        counts=counts,
        class_names=listing.class_names,
        num_mask_classes=max(numbers, default=-1) + 1,
        missing={name: count for name, count in missing.items() if name + SUFFIX in features},
        skipped=sorted([*listing.unreadable, *skipped]),
        others=listing.others,
        are_grey=all(record.are_grey for record in records.values()),
        num_small=sum(record.num_small for record in records.values()),
    )


def _check(prepared: Prepared, records: Mapping[str, ShardRecord], strict: bool) -> None:
    if strict and prepared.skipped:
        raise unreadable(prepared.skipped)
    for split, count in prepared.counts.items():
        if not count:
            file, reason = prepared.skipped[0]
            raise errors.invalid(
                "folder",
                f"no picture for {split} that can be read ({file!r}: {reason})",
                "readable pictures in both splits",
                "mend them, or name another folder",
            )
    check_classes(records.values(), is_all=True)


def _write_metadata(
    prepared: Prepared,
    features: "tfds.features.FeaturesDict",
    shards: Sequence[Shard],
    records: Mapping[str, ShardRecord],
) -> None:
    """Writes what TFDS reads, and the list of what was left out."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.dataset_info import DatasetIdentity

    folder = prepared.folder
    if prepared.skipped:
        table = io.StringIO()
        csv.writer(table, lineterminator="\n").writerows([("file", "reason"), *prepared.skipped])
        files.write_text(folder / SKIPPED_FILE, table.getvalue())
    identity = DatasetIdentity(
        name=NAME, version=tfds.core.Version("1.0.0"), data_dir=str(folder), module_name=""
    )
    info = tfds.core.DatasetInfo(
        builder=identity, features=features, description="A folder of pictures, at one size."
    )
    info.set_file_format("array_record")
    template = tfds.core.ShardedFileTemplate(
        data_dir=folder, dataset_name=NAME, filetype_suffix="array_record"
    )
    splits = [
        tfds.core.SplitInfo(
            name=split,
            shard_lengths=[record.count for record in of_split],
            num_bytes=sum(record.num_bytes for record in of_split),
            filename_template=template.replace(split=split),
        )
        for split, of_split in _by_split(shards, records)
    ]
    info.set_splits(tfds.core.splits.SplitDict(splits))
    info.write_to_directory(folder)


def _by_split(
    shards: Sequence[Shard], records: Mapping[str, ShardRecord]
) -> Iterator[tuple[str, list[ShardRecord]]]:
    for split in SPLITS:
        yield split, [records[shard.file] for shard in shards if shard.split == split]


def _split_words(options: FolderOptions) -> str:
    return (
        "A picture is in test where the first 64 bits of the SHA-256 of its relative path, without "
        f"the ending and in Unicode's normal form C, are below {options.test_share} of 2 to the 64."
    )
