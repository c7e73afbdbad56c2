"""Files of records, each whole or not there, made again only where something has changed."""

import collections
import contextlib
import dataclasses
import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mmdiffusion_jax import errors, files
from mmdiffusion_jax.data.folder.examples import Example
from mmdiffusion_jax.data.folder.listing import Entry
from mmdiffusion_jax.data.folder.pixels import VOID, quiet_pillow

NAME = "pictures"
"""Of the data set, with which the names of its files begin."""

# Pictures a file: what a kill costs at most. Large sets have more, so that files stay few.
_PICTURES, _MOST_FILES = 256, 1000
# Pictures that are read ahead for each core.
_AHEAD = 4
_PROGRESS = "progress"


@dataclasses.dataclass(frozen=True)
class Shard:
    """A file of records that is to be there.

    Attributes:
        split: its split.
        file: its name.
        entries: what it is made of, in their order.
        digest: of the entries, their files' sizes and times, and all options.
    """

    split: str
    file: str
    entries: Sequence[Entry]
    digest: str


@dataclasses.dataclass(frozen=True)
class ShardRecord:
    """What is known of a file of records that is there.

    Attributes:
        digest: of the shard it was made for.
        count: examples in it.
        num_bytes: of these.
        size: of the file, in bytes.
        skipped: (file, reason) of unreadable ones.
        classes: the numbers in its masks.
        are_grey: whether no picture has colours.
        num_small: pictures that were made larger.
    """

    digest: str
    count: int
    num_bytes: int
    size: int
    skipped: Sequence[Sequence[str]]
    classes: Sequence[int]
    are_grey: bool
    num_small: int


def plan_shards(
    split: str, entries: Sequence[Entry], digest_of: Callable[[Sequence[Entry]], str]
) -> list[Shard]:
    """The files of a split: 256 pictures each, or more so that there are at most 1,000."""
    size = max(_PICTURES, -(-len(entries) // _MOST_FILES))
    parts = [entries[start : start + size] for start in range(0, len(entries), size)]
    return [
        Shard(
            split,
            f"{NAME}-{split}.array_record-{index:05d}-of-{len(parts):05d}",
            part,
            hashlib.sha256(f"{len(parts)} {digest_of(part)}".encode()).hexdigest(),
        )
        for index, part in enumerate(parts)
    ]


def whole_shards(
    folder: Path, shards: Sequence[Shard], recorded: dict[str, Any]
) -> dict[str, ShardRecord]:
    """Those of the shards that are in a folder as they are to be: {file: record}.

    Args:
        folder: of the data set.
        shards: all of them.
        recorded: {file: fields of a record} of a finished folder; one that is not finished has them
            in a folder of its own.
    """
    whole = {}
    for shard in shards:
        try:
            text = (folder / _PROGRESS / f"{shard.file}.json").read_text(encoding="utf-8")
            fields = json.loads(text)
        except (OSError, ValueError):
            fields = recorded.get(shard.file)
        try:
            record = ShardRecord(**fields)
            is_whole = (folder / shard.file).stat().st_size == record.size
        except (OSError, TypeError):
            continue
        if is_whole and record.digest == shard.digest:
            whole[shard.file] = record
    return whole


def make_shards(
    folder: Path,
    shards: Sequence[Shard],
    whole: dict[str, ShardRecord],
    make: Callable[[Entry], Example],
    strict: bool,
) -> dict[str, ShardRecord]:
    """Makes the files that are not whole, by all cores; shows a progress bar with the time left.

    However long they are, so many pictures are in memory at a time as the cores read ahead.

    Args:
        folder: of the data set, which is there.
        shards: all of them.
        whole: those that are there.
        make: makes the record of an entry, in threads: Pillow lets them run side by side.
        strict: whether an unreadable file is an error.

    Returns:
        {file: record} of all.

    Raises:
        ValueError: a mask that is refused, masks of one class, or an unreadable file if strict.
        OSError: the disk is full.
    """
    _remove_others(folder, shards)
    (folder / _PROGRESS).mkdir(exist_ok=True)
    missing = [shard for shard in shards if shard.file not in whole]
    total = sum(len(shard.entries) for shard in shards)
    left = sum(len(shard.entries) for shard in missing)
    records = dict(whole)
    examples = _in_order(make, itertools.chain.from_iterable(shard.entries for shard in missing))
    bar = tqdm(total=total, initial=total - left, unit="picture", mininterval=1.0)
    with quiet_pillow(), bar, contextlib.closing(examples):
        for shard in missing:
            part = _counted(itertools.islice(examples, len(shard.entries)), bar)
            records[shard.file] = _make_shard(folder, shard, part, strict)
            check_classes(records.values(), is_all=False)
    return {shard.file: records[shard.file] for shard in shards}


def remove_progress(folder: Path) -> None:
    """Removes what is known of single files, when the whole is there."""
    shutil.rmtree(folder / _PROGRESS, ignore_errors=True)


def is_begun(folder: Path) -> bool:
    """Whether a folder holds a data set that was begun."""
    return (folder / _PROGRESS).is_dir()


def check_classes(records: Iterable[ShardRecord], is_all: bool) -> None:
    """Checks that masks show two classes, as soon as it is known that they will not.

    Raises:
        ValueError: masks of 0 and 255 alone, which is void; or of one class, when all are read.
    """
    numbers = {number for record in records for number in record.classes}
    classes = numbers - {VOID}
    if numbers and len(classes) < 2 and (VOID in numbers or is_all):
        raise errors.invalid(
            "masks",
            "the numbers " + ", ".join(map(str, sorted(numbers))) + " alone, and 255 is void",
            "two classes or more",
            "if 255 is a class, name it in a --palette",
        )


def _remove_others(folder: Path, shards: Sequence[Shard]) -> None:
    """Removes files of an earlier beginning that had other pictures."""
    names = {shard.file for shard in shards}
    files.remove_leftovers(folder)
    for file in folder.glob(f"{NAME}-*.array_record-*"):
        if file.name not in names:
            file.unlink()


def _make_shard(
    folder: Path, shard: Shard, examples: Iterable[Example], strict: bool
) -> ShardRecord:
    """Writes a file of records, and beside it what is known of it."""
    from array_record.python import array_record_module

    written: list[Example] = []
    left_out: list[Example] = []
    num_bytes = 0
    try:
        with files.replacing(folder / shard.file, tidy=False) as stream:
            # The writer opens the file by its name; it is synced and renamed with the stream.
            writer = array_record_module.ArrayRecordWriter(stream.name, "group_size:1")
            for example in examples:
                if example.record is None:
                    left_out.append(example)
                    continue
                writer.write(example.record)
                num_bytes += len(example.record)
                written.append(dataclasses.replace(example, record=b""))
            _check_left_out(left_out, len(shard.entries), strict)
            writer.close()
    # The writer's error for all that a system refuses.
    except RuntimeError as error:
        raise OSError(
            errors.message(
                "out",
                f"{folder / shard.file} ({error})",
                "a disk with room, where this user may write",
                "make room and run again: what is whole is kept",
            )
        ) from error
    record = ShardRecord(
        digest=shard.digest,
        count=len(written),
        num_bytes=num_bytes,
        size=(folder / shard.file).stat().st_size,
        skipped=[(example.file, example.reason) for example in left_out],
        classes=sorted({number for example in written for number in example.classes}),
        are_grey=all(example.is_grey for example in written),
        num_small=sum(example.is_small for example in written),
    )
    text = json.dumps(dataclasses.asdict(record))
    files.write_text(folder / _PROGRESS / f"{shard.file}.json", text)
    return record


def _check_left_out(left_out: Sequence[Example], count: int, strict: bool) -> None:
    refused = [example for example in left_out if example.refused]
    if refused:
        got, expected, mend = refused[0].refused
        also = f" and likewise {len(refused) - 1} more of {count}" if len(refused) > 1 else ""
        raise errors.invalid("masks", f"{refused[0].file!r} with {got}{also}", expected, mend)
    if left_out and strict:
        raise unreadable([(example.file, example.reason) for example in left_out])


def unreadable(skipped: Sequence[Sequence[str]]) -> ValueError:
    """The error for files that cannot be read, where none may be left out."""
    shown = "; ".join(f"{file!r}: {reason}" for file, reason in skipped[:3])
    rest = f"; and {len(skipped) - 3} more" if len(skipped) > 3 else ""
    return errors.invalid(
        "folder",
        f"files that cannot be read ({shown}{rest})",
        "readable ones, as strict asks for",
        "mend or remove them, or leave strict out",
    )


def _in_order(
    make: Callable[[Entry], Example], entries: Iterable[Entry]
) -> Generator[Example, None, None]:
    """Calls by all cores, and yields what they return in order, a few ahead."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    waiting: collections.deque[Future[Example]] = collections.deque()
    pool = ThreadPoolExecutor(cores)
    try:
        for entry in entries:
            waiting.append(pool.submit(make, entry))
            if len(waiting) > _AHEAD * (cores or 1):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _counted(examples: Iterable[Example], bar: Any) -> Iterator[Example]:
    for example in examples:
        yield example
        bar.update()
