"""Samples as a picture."""

from collections.abc import Mapping

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from mmdiffusion_jax.networks import MultiModalModel

_TILE, _CAPTION = 48, 14


def contact_sheet(
    model: MultiModalModel, samples: Mapping[str, np.ndarray], columns: int = 10
) -> np.ndarray:
    """Lays samples out in a grid: pictures enlarged to whole pixels, captions under them.

    Cells are as wide as their widest picture or caption.

    Args:
        model: knows how each modality is shown.
        samples: {name: (num_samples, …)} in data units.
        columns: samples a row.

    Returns:
        (height, width, 3) uint8.
    """
    shown = {name: model.modalities[name].show(x) for name, x in samples.items()}
    pictures = [name for name in shown if not isinstance(shown[name][0], str)]
    captions = [name for name in shown if isinstance(shown[name][0], str)]
    count = len(next(iter(shown.values())))
    scale = {name: max(1, round(_TILE / shown[name][0].shape[0])) for name in pictures}  # type: ignore[union-attr]
    sizes = {
        name: tuple(scale[name] * side for side in shown[name][0].shape[:2])  # type: ignore[union-attr]
        for name in pictures
    }
    texts = [" ".join(str(shown[name][k]) for name in captions) for k in range(count)]
    font = ImageFont.load_default()
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
            enlarged = tile.resize((width, height), PillowImage.Resampling.NEAREST)
            sheet.paste(enlarged, (middle - width // 2, top))
            top += height
        draw.text((middle, top), texts[index], fill="black", anchor="ma", font=font)
    return np.asarray(sheet)
