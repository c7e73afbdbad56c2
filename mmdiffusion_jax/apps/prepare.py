"""Prepares data sets for `config.data.source = "tfds"`."""

from collections.abc import Sequence

from mmdiffusion_jax import data, errors, files


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
    if size and (len(size) != 2 or not all(side.isdecimal() for side in size)):
        raise errors.invalid("size", ",".join(size), "height,width", "as in 64,64")
    out = str(files.writable_folder(out, "out"))
    folder = data.fixed_size.prepare_tfds(dataset, out)
    if size:
        layout = data.fixed_size.Layout(**names, size=(int(size[0]), int(size[1])))
        folder = data.fixed_size.resize_tfds(folder, out, layout)
    print(folder, flush=True)
    return folder


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
