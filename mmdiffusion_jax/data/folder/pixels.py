"""Reading one picture or mask from a file, upright, and bringing it to a size."""

import contextlib
import os
import stat
import warnings
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

from mmdiffusion_jax.data.folder.options import Class

VOID = 255
"""In a mask: a pixel of no class."""

_PICTURES = ("JPEG", "PNG", "WEBP")
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

Box = tuple[int, int, int, int]


class Unreadable(Exception):
    """A file that is no whole picture; its text is the reason."""


class Refused(Exception):
    """A mask that can be read but is not what was asked for; its text is got, expected, mend."""


@contextlib.contextmanager
def quiet_pillow() -> Iterator[None]:
    """Has Pillow neither warn nor apply its own limit of pixels, for all threads, in a block."""
    # Otherwise the first threads would load the formats' readers at the same time.
    Image.init()
    limit = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def read_upright(
    path: str | os.PathLike[str], max_pixels: int, formats: Sequence[str] = _PICTURES
) -> Image.Image:
    """Reads a picture, its first frame, and turns it as its EXIF orientation says.

    Raises:
        Unreadable: an empty, damaged or missing file, one of another format, or more pixels than
            `max_pixels`, of which none is read.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise Unreadable("it is no ordinary file")
        if not status.st_size:
            raise Unreadable("it is empty, 0 bytes")
        with Image.open(path, formats=formats) as image:
            pixels = image.width * image.height
            if pixels > max_pixels:
                raise Unreadable(f"it has {pixels:,} pixels, more than max_pixels = {max_pixels:,}")
            orientation = _orientation(image)
            image.load()
            turn = _UPRIGHT.get(orientation)
            return image.copy() if turn is None else image.transpose(turn)
    except Unreadable:
        raise
    except FileNotFoundError as error:
        raise Unreadable("there is no such file, or it is a link to none") from error
    except Image.UnidentifiedImageError as error:
        raise Unreadable(f"it is no {' or '.join(formats)} file") from error
    # Decoders raise errors of any kind when they meet damaged files.
    except Exception as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise Unreadable(" ".join(str(reason).split())) from error


def _orientation(image: Image.Image) -> int:
    """1 to 8; 1, upright, where the EXIF data are damaged."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:
        return 1


def flatten(image: Image.Image, grey: bool) -> Image.Image:
    """A picture of any mode as RGB, or as grey of one channel, with 8 bits.

    Grey levels of 16 bits become round(v · 255 / 65535); of colours with 16 bits Pillow reads the
    higher 8. Transparency is laid over white: c α / 255 + 255 − α.

    Raises:
        Unreadable: a mode of other numbers, such as floats.

    Example:
        >>> flatten(Image.new("LA", (1, 1), (0, 51)), grey=False).getpixel((0, 0))
        (204, 204, 204)
    """
    if image.mode.startswith("I"):
        levels = np.asarray(image).astype(np.float64)
        image = Image.fromarray(np.round(levels.clip(0, 65535) * (255 / 65535)).astype(np.uint8))
    elif image.mode == "F":
        raise Unreadable("its pixels are floats")
    elif _may_be_transparent(image):
        colours = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), colours)
    return image.convert("L" if grey else "RGB")


def box_of(size: tuple[int, int], wanted: tuple[int, int], crop: str) -> Box:
    """(left, top, right, bottom), the part of a picture (width, height) that is kept.

    It is all of it for "stretch". For "centre" it is the largest part of the shape `wanted`
    (height, width), of whole pixels, whose middle is the picture's.

    Example:
        >>> box_of((400, 300), (64, 64), "centre"), box_of((400, 300), (64, 64), "stretch")
        ((50, 0, 350, 300), (0, 0, 400, 300))
    """
    width, height = size
    if crop == "stretch":
        return 0, 0, width, height
    rows, columns = wanted
    kept_width = max(1, min(width, round(height * columns / rows)))
    kept_height = max(1, min(height, round(width * rows / columns)))
    left, top = (width - kept_width) // 2, (height - kept_height) // 2
    return left, top, left + kept_width, top + kept_height


def shrink(image: Image.Image, box: Box, size: tuple[int, int]) -> Image.Image:
    """The part `box` of a picture at `size` (height, width).

    It is made smaller by means over boxes; where it is smaller than `size`, by bicubic splines.
    """
    smaller = box[2] - box[0] < size[1] or box[3] - box[1] < size[0]
    how = Image.Resampling.BICUBIC if smaller else Image.Resampling.BOX
    return image.resize((size[1], size[0]), how, box=box)


def nearest(pixels: np.ndarray, box: Box, size: tuple[int, int]) -> np.ndarray:
    """The part `box` of pixels (height, width, …) at `size`: those nearest to the new centres.

    Row i of h is row ⌊(i + ½) H / h⌋ of the box's H rows, and columns alike.

    Example:
        >>> nearest(np.arange(16).reshape(4, 4), (0, 0, 4, 4), (2, 2)).tolist()
        [[5, 7], [13, 15]]
    """
    left, top, right, bottom = box
    rows = top + (2 * np.arange(size[0]) + 1) * (bottom - top) // (2 * size[0])
    columns = left + (2 * np.arange(size[1]) + 1) * (right - left) // (2 * size[1])
    return pixels[np.ix_(rows, columns)]


def mask_classes(image: Image.Image, pixels: np.ndarray, palette: Sequence[Class]) -> np.ndarray:
    """Pixels of a mask as classes (height, width) uint8, with 255 for void.

    Without a palette the pixels are the classes: grey levels, places in the file's own palette, or
    colours whose channels are equal. With one, each colour or number in it is a class; black and
    255 stand for void where they are none.

    Args:
        image: the mask as it was read.
        pixels: of it, from `mask_pixels`, all or some of them.
        palette: what each class is drawn as, or nothing.

    Raises:
        Refused: a number above 255, colours without a palette, or one that is not in it.

    Example:
        >>> drawn = Image.new("RGB", (2, 1), (0, 0, 255))
        >>> mask_classes(drawn, mask_pixels(drawn, 3), ((255, 0, 0), (0, 0, 255))).tolist()
        [[1, 1]]
    """
    if palette and len(palette[0]) == 3:
        return _by_colour(pixels, np.array(palette))
    if pixels.ndim == 3:
        if (pixels != pixels[..., :1]).any():
            differs = (pixels != pixels[..., :1]).any(axis=-1)
            colour = tuple(map(int, pixels[differs][0]))
            raise Refused(f"the colour {colour}", "class numbers", "name a palette for colours")
        pixels = pixels[..., 0]
    if pixels.max(initial=0) > VOID or pixels.min(initial=0) < 0:
        wrong = pixels[(pixels > VOID) | (pixels < 0)].flat[0]
        raise Refused(f"the number {wrong} ({image.mode})", "0 to 255", "number classes from 0")
    if not palette:
        return pixels.astype(np.uint8)
    return _by_number(pixels, np.array(palette)[:, 0])


def mask_pixels(image: Image.Image, channels: int) -> np.ndarray:
    """The pixels of a mask: (height, width) integers, or (height, width, 3) of colours.

    Args:
        image: the mask as it was read.
        channels: 3 for colours in any case; 1 for numbers where the file has them.

    Raises:
        Refused: transparent pixels, of which nobody knows what they are.
    """
    if image.mode != "P" and _may_be_transparent(image):
        alpha = image.convert("RGBA").getchannel("A")
        if alpha.getextrema()[0] < VOID:
            raise Refused("transparent pixels", "opaque ones", "paint void as 255, or as black")
    if channels == 3 or image.mode not in ("1", "L", "P") and not image.mode.startswith("I"):
        return np.asarray(image.convert("RGB")).astype(np.int64)
    return np.asarray(image).astype(np.int64)


def _may_be_transparent(image: Image.Image) -> bool:
    return image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info


def _by_colour(pixels: np.ndarray, palette: np.ndarray) -> np.ndarray:
    def code(colours: np.ndarray) -> np.ndarray:
        return colours[..., 0] * 65536 + colours[..., 1] * 256 + colours[..., 2]

    classes, known = _places(code(pixels), code(palette))
    is_black = (pixels == 0).all(axis=-1)
    wrong = ~known & ~is_black
    if wrong.any():
        colour = tuple(map(int, pixels[wrong][0]))
        raise Refused(f"the colour {colour}", "those of the palette, or black", "add it there")
    return np.where(known, classes, VOID).astype(np.uint8)


def _by_number(pixels: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    classes, known = _places(pixels, numbers)
    wrong = ~known & (pixels != VOID)
    if wrong.any():
        raise Refused(
            f"the number {pixels[wrong][0]}", "those of the palette, or 255", "add it there"
        )
    return np.where(known, classes, VOID).astype(np.uint8)


def _places(values: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The place of each value in `known`, and whether it is there."""
    order = np.argsort(known)
    places = np.searchsorted(known[order], values).clip(max=len(known) - 1)
    return order[places], known[order][places] == values


