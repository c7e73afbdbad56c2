"""Pictures of samples."""

from collections.abc import Iterable, Mapping

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from mmdiffusion_jax.networks import MultiModalModel

_TILE, _CAPTION = 48, 14
# The longest and the shortest side of a picture, and the most letters of a caption.
_LARGEST, _SMALLEST, _LETTERS = 256, 4, 80


def contact_sheet(
    model: MultiModalModel, samples: Mapping[str, np.ndarray], columns: int = 10
) -> np.ndarray:
    """Lays samples out in a grid: pictures enlarged to whole pixels, captions under them.

    Pictures whose longer side is above 256 pixels are made smaller, and captions are cut after 80
    letters. Cells are as wide as the widest picture or caption.

    Args:
        model: its modalities make pictures or captions.
        samples: {name: (num_samples, …)} in data units.
        columns: samples a row.

    Returns:
        (height, width, 3) uint8.
    """
    shown = {name: model.modalities[name].show(x) for name, x in samples.items()}
    pictures = [name for name in shown if not isinstance(shown[name][0], str)]
    captions = [name for name in shown if isinstance(shown[name][0], str)]
    count = len(next(iter(shown.values())))
    sizes = {name: _tile_size(*shown[name][0].shape[:2]) for name in pictures}  # type: ignore[union-attr]
    texts = [_cut(" ".join(str(shown[name][k]) for name in captions)) for k in range(count)]
    font = _font(texts)
    widths = [width for _, width in sizes.values()] + [int(font.getlength(text)) for text in texts]
    cell_height = sum(height for height, _ in sizes.values()) + (_CAPTION if captions else 0) + 4
    cell_width = max(widths) + 4
    rows = -(-count // columns)
    sheet = PillowImage.new("RGB", (columns * cell_width, rows * cell_height), "white")
    draw = ImageDraw.Draw(sheet)
    for index in range(count):
        middle = (index % columns) * cell_width + cell_width // 2
        top = (index // columns) * cell_height + 2
        for name in pictures:
            height, width = sizes[name]
            tile = PillowImage.fromarray(np.ascontiguousarray(shown[name][index]))
            larger = tile.width <= width and tile.height <= height
            how = PillowImage.Resampling.NEAREST if larger else PillowImage.Resampling.BOX
            sheet.paste(tile.resize((width, height), how), (middle - width // 2, top))
            top += height
        draw.text((middle, top), texts[index], fill="black", anchor="ma", font=font)
    return np.asarray(sheet)


def _tile_size(height: int, width: int) -> tuple[int, int]:
    """(height, width) of a picture on the sheet: whole multiples, or shrunk to the longest side.

    Example:
        >>> _tile_size(8, 8), _tile_size(1024, 512), _tile_size(1, 5000)
        ((48, 48), (256, 128), (4, 256))
    """
    longer = max(height, width)
    if longer <= _LARGEST:
        factor = max(1, min(round(_TILE / height), _LARGEST // longer))
        return factor * height, factor * width
    shrunk = (round(side * _LARGEST / longer) for side in (height, width))
    rows, columns = (max(_SMALLEST, side) for side in shrunk)
    return rows, columns


def _font(texts: Iterable[str]) -> "ImageFont.ImageFont | ImageFont.FreeTypeFont":
    """Pillow's font, or one of more alphabets where a text goes beyond what that has, Latin-1."""
    font = ImageFont.load_default()
    if max(map(ord, "".join(texts)), default=0) < 256:
        return font
    import matplotlib

    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf", 10)


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LETTERS else f"{line[: _LETTERS - 1]}…"
