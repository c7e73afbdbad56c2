"""Reading one picture or mask from a file, upright, and bringing it to a size."""

import contextlib
import os
import stat
import warnings
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

from mmdiffusion_jax.data.folder.options import Colour

VOID = 255
"""In a mask: a pixel of no class."""

_PICTURES = ("JPEG", "PNG", "WEBP")
_ORIENTATION = 0x0112
# Behind the signature, the length and the name of the head, the width and the height.
_PNG_DEPTH = 24
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
    path: str | os.PathLike[str], max_pixels: int, formats: tuple[str, ...] = _PICTURES
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


def bit_depth(path: str | os.PathLike[str]) -> int:
    """The bits of one number in a PNG file, as its head states them."""
    with open(path, "rb") as file:
        return file.read(_PNG_DEPTH + 1)[_PNG_DEPTH]


def mask_pixels(image: Image.Image, as_colours: bool, bits: int = 8) -> np.ndarray:
    """The pixels of a mask: (height, width) numbers, or (height, width, 3) of colours.

    Numbers are grey levels as the file has them, places in the file's own palette, or what the
    channels of a colour have in common.

    Args:
        image: from `read_upright`.
        as_colours: whether colours are wanted.
        bits: of one number in its file; Pillow stretches grey levels of 2 and 4 bits over 0 … 255.

    Raises:
        Refused: transparent pixels, of which nobody knows what they are; colours for numbers; or a
            number that is not in 0 … 255.

    Example:
        >>> mask_pixels(Image.new("RGB", (2, 1), (7, 7, 7)), as_colours=False).tolist()
        [[7, 7]]
        >>> mask_pixels(Image.new("L", (2, 1), 170), as_colours=False, bits=2).tolist()
        [[2, 2]]
    """
    if image.mode != "P" and _may_be_transparent(image):
        alpha = image.convert("RGBA").getchannel("A")
        if np.asarray(alpha).min(initial=VOID) < VOID:
            raise Refused("transparent pixels", "opaque ones", "paint void as 255, or as black")
    if image.mode.startswith("I"):
        numbers = np.asarray(image).astype(np.int64)
        wrong = numbers[(numbers < 0) | (numbers > VOID)]
        if wrong.size:
            raise Refused(
                f"the number {wrong[0]}", "0 to 255 in a mask of 16 bits", "number classes from 0"
            )
        image = Image.fromarray(numbers.astype(np.uint8))
    if as_colours:
        return np.asarray(image.convert("RGB"))
    if image.mode in ("1", "L", "P"):
        step = VOID // (2**bits - 1) if image.mode == "L" and bits in (2, 4) else 1
        return np.asarray(image).astype(np.uint8) // np.uint8(step)
    colours = np.asarray(image.convert("RGB"))
    differs = (colours != colours[..., :1]).any(axis=-1)
    if differs.any():
        raise Refused(
            f"the colour {_tuple(colours[differs][0])}",
            "class numbers, or colours of a palette",
            "name their colours by --palette",
        )
    return colours[..., 0]


def classes_of(colours: np.ndarray, palette: Sequence[Colour]) -> np.ndarray:
    """Colours (…, 3) uint8 → their places in a palette (…) uint8.

    Black and white are void, 255, where they are in no place of it.

    Raises:
        Refused: another colour that is not in it.

    Example:
        >>> red, blue = (255, 0, 0), (0, 0, 255)
        >>> classes_of(np.array([blue, red, (0, 0, 0)], np.uint8), (red, blue)).tolist()
        [1, 0, 255]
    """
    codes, known = _codes(colours), _codes(np.array(palette))
    order = np.argsort(known)
    places = np.searchsorted(known[order], codes).clip(max=len(known) - 1)
    is_known = known[order][places] == codes
    wrong = ~is_known & (codes != 0) & (codes != 0xFFFFFF)
    if wrong.any():
        raise Refused(
            f"the colour {_tuple(colours[wrong][0])}",
            f"one of the {len(known)} colours of the palette, or black or white for void",
            "correct the mask, or the palette",
        )
    return np.where(is_known, order[places], VOID).astype(np.uint8)


def _codes(colours: np.ndarray) -> np.ndarray:
    return colours.astype(np.int64) @ np.array([65536, 256, 1])


def _tuple(colour: np.ndarray) -> tuple[int, ...]:
    return tuple(map(int, colour))


def _may_be_transparent(image: Image.Image) -> bool:
    return image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info
