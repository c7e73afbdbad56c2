"""What is to be made of a folder of pictures."""

import dataclasses

from mmdiffusion_jax import errors, ranges

BY_FOLDER = "by_folder"
"""The value of `labels` by which a picture's class is its first folder."""

CROPS = ("centre", "stretch")
"""How pictures come to another shape: their middle is cut out, or they are stretched."""

Colour = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""


@dataclasses.dataclass(frozen=True)
class FolderOptions:
    """What is to be made of a folder of pictures.

    Attributes:
        folder: the pictures, JPEG, PNG or WebP, in folders of any depth.
        size: (height, width) that all of them get.
        masks: a folder with a PNG of the same relative path for each picture that has a mask.
        labels: "by_folder", a CSV file with the columns `file` and `label`, or "" for none.
        captions: a CSV file with the columns `file` and `caption`, or "".
        crop: a name in `CROPS`.
        palette: the colour that each class has in the masks, in their order, grey levels being
            colours too; empty where masks hold the classes' numbers.
        grey: whether pictures get one channel in place of three.
        strict: whether an unreadable file is an error; otherwise it is listed and left out.
        test_share: the share of pictures to test on, in (0, 1).
        max_pixels: pictures with more pixels count as unreadable, before they take memory.

    Raises:
        ValueError: a size below 1, another crop, a share that is not between 0 and 1, fewer than
            two classes in a palette or one twice, grey pictures with masks, or `max_pixels` below
            1.

    Example:
        >>> FolderOptions("photos", (64, 64), crop="center")
        Traceback (most recent call last):
        ...
        ValueError: `crop`: got 'center', expected one of 'centre', 'stretch'; did you mean ...
    """

    folder: str
    size: tuple[int, int]
    masks: str = ""
    labels: str = ""
    captions: str = ""
    crop: str = "centre"
    palette: tuple[Colour, ...] = ()
    grey: bool = False
    strict: bool = False
    test_share: float = 0.1
    max_pixels: int = 100_000_000

    def __post_init__(self) -> None:
        for side in self.size:
            ranges.check_whole("size", side, 1)
        ranges.check_one_of("crop", self.crop, CROPS)
        ranges.check_real("test_share", self.test_share, 0, 1, "()")
        ranges.check_whole("max_pixels", self.max_pixels, 1)
        if self.palette and not self.masks:
            raise errors.invalid("palette", "one without masks", "masks", "name their folder")
        if self.palette and not 2 <= len(set(self.palette)) == len(self.palette) <= 255:
            raise errors.invalid(
                "palette",
                f"{len(self.palette)} colours, {len(set(self.palette))} of them different",
                "2 to 255 different ones",
                "correct it",
            )
        for value in (value for colour in self.palette for value in colour):
            ranges.check_whole("palette", value, 0, 255)
        if self.grey and self.masks:
            raise errors.invalid(
                "grey", "masks too", "pictures alone", "leave it out: masks need three channels"
            )
