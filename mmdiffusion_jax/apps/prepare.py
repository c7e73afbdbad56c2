"""Prepares data sets for `config.data.source = "tfds"`."""

from collections.abc import Collection, Sequence

from mmdiffusion_jax import data, errors, files

# Flags that go with a folder of pictures alone, and with a data set alone.
_OF_FOLDER = (
    *("labels", "captions", "crop", "palette"),
    *("grey", "strict", "test_share", "max_pixels"),
)
_OF_DATASET = ("images", "values")


def prepare(
    dataset: str,
    out: str,
    size: Sequence[str] = (),
    images: Sequence[str] = (),
    masks: Sequence[str] = (),
    values: Sequence[str] = (),
) -> str:
    """Prepares a TFDS data set, and with a size a copy in which images and masks have that size.

    Args:
        dataset: its name, "name" or "name/config".
        out: the folder of prepared data sets.
        size: (height, width) in digits; left out, the data set is prepared as it is.
        images: "column" or "column:feature", resized by box averages.
        masks: the same, resized by nearest pixels.
        values: the same, kept as they are.

    Returns:
        The folder for `config.data.folder`, which is printed too.

    Raises:
        ValueError: a bad request, a folder that cannot be written to, or a data set that cannot be
            prepared.
    """
    groups = {"images": images, "masks": masks, "values": values}
    names = {kind: _names(kind, texts) for kind, texts in groups.items()}
    if not size and any(names.values()):
        raise errors.invalid("size", "none", "height,width", "as in --size=64,64")
    sides = parse_size(size) if size else None
    out = str(files.writable_folder(files.local_path(out, "out"), "out"))
    folder = data.fixed_size.prepare_tfds(dataset, out)
    if sides:
        layout = data.fixed_size.Layout(**names, size=sides)
        folder = data.fixed_size.resize_tfds(folder, out, layout)
    print(folder, flush=True)
    return folder


def check_prepare_flags(given: Collection[str]) -> None:
    """Checks which flags of launch/prepare.py are given together.

    Raises:
        ValueError: neither or both of `folder` and `dataset`, or a flag of the other one.

    Example:
        >>> check_prepare_flags(["folder", "out", "values"])
        Traceback (most recent call last):
        ...
        ValueError: `values`: got it with --folder, expected it with --dataset alone; leave it out.
    """
    ways = [way for way in ("folder", "dataset") if way in given]
    if len(ways) != 1:
        raise errors.invalid(
            "folder",
            "--dataset too" if ways else "nothing",
            "--folder=PICTURES or --dataset=NAME",
            "give one of the two",
        )
    others, other = (_OF_DATASET, "dataset") if ways == ["folder"] else (_OF_FOLDER, "folder")
    for name in others:
        if name in given:
            raise errors.invalid(
                name, f"it with --{ways[0]}", f"it with --{other} alone", "leave it out"
            )


def parse_size(size: Sequence[str]) -> tuple[int, int]:
    """(height, width) of digits.

    Raises:
        ValueError: anything but two whole numbers.

    Example:
        >>> parse_size(["48", "64"])
        (48, 64)
    """
    if len(size) != 2 or not all(side.isdecimal() for side in size):
        raise errors.invalid("size", ",".join(size) or "none", "height,width", "as in 64,64")
    return int(size[0]), int(size[1])


def _names(kind: str, texts: Sequence[str]) -> dict[str, str]:
    names = {}
    for text in texts:
        ours, colon, theirs = text.partition(":")
        if not ours or (colon and not theirs) or ours in names:
            raise errors.invalid(
                kind, repr(text), "column or column:feature, each once", "as in mask:labels"
            )
        names[ours] = theirs or ours
    return names
