"""Prepares a folder of pictures for training, with a config that trains on it."""

from collections.abc import Sequence

from absl import logging

from mmdiffusion_jax import errors, files
from mmdiffusion_jax.apps.folder_config import CONFIG_FILE, config_text
from mmdiffusion_jax.data.folder import (
    RECORD_FILE,
    SKIPPED_FILE,
    FolderOptions,
    Prepared,
    prepare,
    read_rows,
    shown,
)
from mmdiffusion_jax.modalities.palettes import PALETTES

# Unreadable files, class names and the like that a line of the summary names.
_SHOWN = 5


def prepare_folder(options: FolderOptions, out: str) -> str:
    """Writes a folder of pictures as a data set, and a config file that trains on it.

    What came of it is logged, and the path of the config file is printed. A config file that is
    there is left as it is.

    Args:
        options: the pictures, and what is made of them.
        out: the folder of the data set, `config.data.folder`.

    Returns:
        The path of the config file, `<out>/config.py`.

    Raises:
        ValueError: as `data.folder.prepare`.
        OSError: the disk is full.
    """
    prepared = prepare(options, out)
    config = prepared.folder / CONFIG_FILE
    if not config.exists():
        files.write_text(config, config_text(options, prepared))
    for line in _summary(options, prepared):
        logging.info("%s", line)
    print(shown(str(config)), flush=True)
    return str(config)


def parse_palette(text: str) -> tuple[tuple[int, int, int], ...]:
    """The colours of classes: a known palette, grey levels such as "0,255", a CSV file, or "".

    The file has the columns `red`, `green` and `blue`, and a row a class.

    Raises:
        ValueError: a name that is no palette and no file, or values that are no whole numbers.

    Example:
        >>> parse_palette("0,255"), parse_palette("camvid")[1]
        (((0, 0, 0), (255, 255, 255)), (128, 0, 0))
    """
    if not text:
        return ()
    if text in PALETTES:
        return tuple((int(r), int(g), int(b)) for r, g, b in PALETTES[text])
    levels = text.split(",")
    if len(levels) > 1 and all(level.strip().isdecimal() for level in levels):
        return tuple((int(level),) * 3 for level in levels)
    if not files.local_path(text, "palette").is_file():
        raise errors.invalid(
            "palette",
            f"{text!r}, where there is no file",
            f"one of {', '.join(map(repr, PALETTES))}, grey levels such as 0,255, or a CSV file",
            "mend its path",
        )
    colours = []
    for line, values in read_rows("palette", text, ("red", "green", "blue")):
        if not all(value.isdecimal() for value in values):
            raise errors.invalid(
                "palette", f"{','.join(values)} in line {line}", "whole numbers", "correct them"
            )
        red, green, blue = map(int, values)
        colours.append((red, green, blue))
    return tuple(colours)


def _summary(options: FolderOptions, prepared: Prepared) -> list[str]:
    counts = prepared.counts
    lines = [
        f"{sum(counts.values())} pictures: {counts['train']} to train on, {counts['test']} to test "
        f"on, by a hash of their paths that {RECORD_FILE} states."
    ]
    if prepared.class_names:
        lines.append(f"label: {len(prepared.class_names)} classes: {_some(prepared.class_names)}.")
    if prepared.num_mask_classes:
        lines.append(
            f"mask: classes 0 … {prepared.num_mask_classes - 1}, and 255 where there is none."
        )
    for name, count in prepared.missing.items():
        lines.append(f"pictures without a {name}: {count}; they train what needs none.")
    if prepared.skipped:
        skipped = _some([f"{file} ({reason})" for file, reason in prepared.skipped])
        lines.append(f"left out: {len(prepared.skipped)}, see {SKIPPED_FILE}: {skipped}.")
    if prepared.others:
        kinds = _some([f"{count} {ending}" for ending, count in sorted(prepared.others.items())])
        lines.append(f"left alone: files of other kinds: {kinds}.")
    if prepared.num_small:
        size = " × ".join(map(str, options.size))
        lines.append(f"{prepared.num_small} pictures are smaller than {size}, and were enlarged.")
    if prepared.are_grey and not options.grey and not options.masks:
        lines.append("No picture has colours: --grey would make the model cheaper.")
    return lines


def _some(texts: Sequence[str]) -> str:
    rest = len(texts) - _SHOWN
    text = ", ".join(texts[:_SHOWN])
    return f"{text} and {rest} more" if rest > 0 else text
