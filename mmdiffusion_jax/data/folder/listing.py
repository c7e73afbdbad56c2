"""Which pictures a folder has, what belongs to each, and which split it is in."""

import collections
import dataclasses
import hashlib
import os
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from mmdiffusion_jax import errors, files
from mmdiffusion_jax.data.folder.options import BY_FOLDER, FolderOptions
from mmdiffusion_jax.data.folder.tables import read_rows

SPLITS = ("train", "test")

_PICTURES = (".jpg", ".jpeg", ".jpe", ".png", ".webp")
# Folders of these names hold splits; as classes they would be a mistake.
_SPLIT_NAMES = {"train", "training", "test", "testing", "val", "valid", "validation", "dev"}
_SHOWN = 3


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """A picture and what belongs to it.

    Attributes:
        picture: its path, relative to the folder of pictures.
        mask: the path of its mask, relative to the folder of masks, or "".
        label: its class, or −1.
        caption: its caption, or "".
    """

    picture: str
    mask: str = ""
    label: int = -1
    caption: str = ""


@dataclasses.dataclass(frozen=True)
class Listing:
    """The pictures of a folder.

    Attributes:
        splits: {split: entries}, in an order by a hash of their paths.
        class_names: of the labels, sorted; none without labels.
        unreadable: [(path, reason)] of folders that could not be listed.
        others: {ending: how many files of other kinds were left alone}.
    """

    splits: Mapping[str, Sequence[Entry]]
    class_names: tuple[str, ...]
    unreadable: Sequence[tuple[str, str]]
    others: Mapping[str, int]


def shown(path: str) -> str:
    r"""A path as text that can be printed and stored, whatever bytes its name has.

    Example:
        >>> shown("a\udcff.png"), shown("Ünä.png")
        ('a\\xff.png', 'Ünä.png')
    """
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def split_of(picture: str, test_share: float) -> str:
    """The split of a picture, by a hash of its relative path alone.

    With h the first 64 bits of SHA-256 of `key(picture)`, it is "test" where h / 2⁶⁴ is below
    `test_share`. So it does not depend on what else is in the folder, on where that lies, or on the
    picture's format.

    Example:
        >>> split_of("cats/1.jpg", 0.1) == split_of("cats/1.png", 0.1)
        True
    """
    return "test" if _hash(picture) < test_share * 2**64 else "train"


def key(path: str) -> str:
    r"""A relative path without its ending, in Unicode's normal form C.

    Systems write ä in two ways, as one letter or as two.

    Example:
        >>> key("a\u0308/b.jpg")
        'ä/b'
    """
    return unicodedata.normalize("NFC", shown(os.path.splitext(path)[0])).replace(os.sep, "/")


def list_folder(options: FolderOptions, out: Path) -> Listing:
    """Lists the pictures of a folder, with their masks, labels and captions.

    Links are followed; one that leads back to a folder above it is left out, as are names that
    begin with a dot, the folder of masks and `out`.

    Raises:
        ValueError: a folder that is not there or has no pictures; two pictures of one name; a
            mask, label or caption without its picture, or twice; a mask that is no PNG; pictures
            without a class folder; fewer than two classes; or a split without pictures.
    """
    folder = _folder(options.folder, "folder")
    masks = _folder(options.masks, "masks") if options.masks else None
    if masks and masks.samefile(folder):
        raise errors.invalid("masks", f"{masks}, the pictures' own", "another folder", "name it")
    apart = {_identity(path) for path in (masks, out) if path and path.exists()}
    walk = _Walk(folder, apart)
    pictures = _by_key("folder", walk.files(), folder)
    if not pictures:
        kinds = ", ".join(f"{count} {ending}" for ending, count in sorted(walk.others.items()))
        reasons = "; ".join(f"{path}: {reason}" for path, reason in walk.unreadable)
        raise errors.invalid(
            "folder",
            f"{str(folder)!r} with {kinds or 'no files'}{reasons and f' ({reasons})'}",
            "JPEG, PNG or WebP files in it",
            "name the folder that holds them",
        )
    mask_of = _masks(masks, {*apart, _identity(folder)} - {_identity(masks)}) if masks else {}
    _check_partners("masks", "mask", [each for each in mask_of if each not in pictures], mask_of)
    labels = _labels(options.labels, pictures)
    captions = _table("captions", "caption", options.captions, pictures)
    names = _class_names(labels) if options.labels else ()
    number = {name: index for index, name in enumerate(names)}
    splits: dict[str, list[Entry]] = {split: [] for split in SPLITS}
    for each in sorted(pictures, key=lambda each: (_hash_of_key(each), each)):
        picture = pictures[each]
        label = number[labels[each]] if labels.get(each) else -1
        entry = Entry(picture, mask_of.get(each, ""), label, captions.get(each, ""))
        splits[split_of(picture, options.test_share)].append(entry)
    for split, entries in splits.items():
        if not entries:
            raise errors.invalid(
                "test_share",
                f"{options.test_share}, which leaves none of {len(pictures)} pictures to {split}",
                "a share that gives both splits some",
                f"{'raise' if split == 'test' else 'lower'} it, or add pictures",
            )
    return Listing(splits, names, walk.unreadable, walk.others)


class _Walk:
    """The files below a folder, sorted, and what is met on the way."""

    def __init__(self, root: Path, apart: set[tuple[int, int]]) -> None:
        self.root = root
        self._apart = apart
        self.unreadable: list[tuple[str, str]] = []
        self.others: collections.Counter[str] = collections.Counter()

    def files(self) -> Iterator[str]:
        """The relative paths of files that have the ending of a picture."""
        return self._below("", [_identity(self.root)])

    def _below(self, place: str, above: list[tuple[int, int]]) -> Iterator[str]:
        try:
            entries = sorted(os.scandir(self.root / place), key=lambda entry: entry.name)
        except OSError as error:
            self.unreadable.append((shown(place), error.strerror or str(error)))
            return
        for entry in entries:
            path = os.path.join(place, entry.name)
            if entry.name.startswith("."):
                continue
            try:
                is_folder = entry.is_dir()
                identity = _identity(Path(entry.path)) if is_folder else None
            except OSError as error:
                self.unreadable.append((shown(path), error.strerror or str(error)))
                continue
            if identity is None:
                ending = os.path.splitext(entry.name)[1].lower()
                if ending in _PICTURES:
                    yield path
                else:
                    self.others[shown(ending) or "without an ending"] += 1
            elif identity not in self._apart and identity not in above:
                yield from self._below(path, [*above, identity])


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _folder(path: str, argument: str) -> Path:
    folder = files.local_path(path, argument)
    if not folder.is_dir():
        what = "which is a file" if folder.exists() else "where there is nothing"
        raise errors.invalid(argument, f"{path!r}, {what}", "a folder", "mend its path")
    return folder


def _by_key(argument: str, paths: Iterable[str], folder: Path) -> dict[str, str]:
    of_keys: dict[str, str] = {}
    for path in paths:
        other = of_keys.setdefault(key(path), path)
        if other != path:
            raise errors.invalid(
                argument,
                f"{shown(other)!r} and {shown(path)!r} in {str(folder)!r}",
                "one file of a name, as masks, labels and captions go by it without its ending",
                "remove or rename one",
            )
    return of_keys


def _masks(folder: Path, apart: set[tuple[int, int]]) -> dict[str, str]:
    walk = _Walk(folder, apart)
    of_keys = _by_key("masks", walk.files(), folder)
    for path, reason in walk.unreadable:
        raise errors.invalid(
            "masks", f"{path!r} ({reason})", "folders that can be read", "mend its permissions"
        )
    others = [path for path in of_keys.values() if not path.lower().endswith(".png")]
    if others or not of_keys:
        raise errors.invalid(
            "masks",
            f"{str(folder)!r} with {_some(others) if others else 'no PNG files'}",
            "PNG files, which keep the numbers as they were drawn",
            "write them so",
        )
    return of_keys


def _labels(labels: str, pictures: Mapping[str, str]) -> dict[str, str]:
    """{key: class name}."""
    if labels != BY_FOLDER:
        return _table("labels", "label", labels, pictures)
    outside = [path for each, path in pictures.items() if "/" not in each]
    if outside:
        raise errors.invalid(
            "labels",
            f"{BY_FOLDER!r}, and {_some(outside)} outside any class folder",
            "every picture in the folder of its class",
            "move them, or give a CSV file with the columns file and label",
        )
    return {each: each.partition("/")[0] for each in pictures}


def _class_names(labels: Mapping[str, str]) -> tuple[str, ...]:
    names = {name for name in labels.values() if name}
    if len(names) < 2 or {name.lower() for name in names} <= _SPLIT_NAMES:
        raise errors.invalid(
            "labels",
            "the classes " + ", ".join(map(repr, sorted(names))) if names else "no class",
            "two classes or more, which are no splits",
            "name the folder above the class folders, or leave labels out",
        )
    # "10" comes after "9" where all names are numbers.
    if all(name.isdecimal() for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))


def _table(argument: str, column: str, path: str, pictures: Mapping[str, str]) -> dict[str, str]:
    """{key: value} of a CSV file, whose rows name pictures with their ending or without it."""
    if not path:
        return {}
    values: dict[str, str] = {}
    of_paths = {unicodedata.normalize("NFC", shown(path)): each for each, path in pictures.items()}
    lost = []
    for line, (file, value) in read_rows(argument, path, ("file", column)):
        name = unicodedata.normalize("NFC", file.removeprefix("./"))
        each = of_paths.get(name, name)
        if each not in pictures:
            lost.append(file)
        elif each in values:
            raise errors.invalid(
                argument, f"{file!r} twice, again in line {line}", "one row a picture", "remove one"
            )
        else:
            values[each] = " ".join(value.split())
    _check_partners(argument, column, lost)
    return values


def _check_partners(
    argument: str, what: str, lost: Sequence[str], of_keys: Mapping[str, str] | None = None
) -> None:
    if lost:
        names = lost if of_keys is None else [of_keys[each] for each in lost]
        raise errors.invalid(
            argument,
            f"a {what} without a picture: {_some(names)}",
            f"the relative path of a picture for every {what}",
            "add the pictures, correct the paths, or remove what is left over",
        )


def _some(paths: Sequence[str]) -> str:
    rest = len(paths) - _SHOWN
    text = ", ".join(repr(shown(path)) for path in paths[:_SHOWN])
    return f"{text} and {rest} more" if rest > 0 else text


def _hash(picture: str) -> int:
    return _hash_of_key(key(picture))


def _hash_of_key(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
