"""Colours: of classes by the known palettes, of values between −1 and 1, and of any channels."""

from collections.abc import Mapping

import numpy as np

_TAB = (
    *((31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40), (148, 103, 189)),
    *((140, 86, 75), (227, 119, 194), (127, 127, 127), (188, 189, 34), (23, 190, 207)),
)
# sky, building, pole, road, pavement, tree, sign, fence, car, pedestrian, bicyclist
_CAMVID = (
    *((128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (60, 40, 222)),
    *((128, 128, 0), (192, 128, 128), (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192)),
)
# road, sidewalk, building, wall, fence, pole, traffic light, traffic sign, vegetation, terrain,
# sky, person, rider, car, truck, bus, train, motorcycle, bicycle
_CITYSCAPES = (
    *((128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153)),
    *((153, 153, 153), (250, 170, 30), (220, 220, 0), (107, 142, 35), (152, 251, 152)),
    *((70, 130, 180), (220, 20, 60), (255, 0, 0), (0, 0, 142), (0, 0, 70), (0, 60, 100)),
    *((0, 80, 100), (0, 0, 230), (119, 11, 32)),
)
_VIRIDIS = (
    *((68, 1, 84), (71, 44, 122), (59, 81, 139), (44, 113, 142), (33, 144, 141)),
    *((39, 173, 129), (92, 200, 99), (170, 220, 50), (253, 231, 37)),
)

PALETTES: Mapping[str, np.ndarray] = {
    name: np.array(colours, np.uint8)
    for name, colours in (("tab", _TAB), ("camvid", _CAMVID), ("cityscapes", _CITYSCAPES))
}
"""Colours of the classes 0, 1, 2, … as (num_colours, 3) uint8, by the palette's name."""


def class_colours(palette: str, classes: np.ndarray, unknown: int | None = None) -> np.ndarray:
    """Classes (…) → RGB (…, 3) uint8 by a palette of `PALETTES`, with `unknown` in black.

    Colours repeat where there are more classes.

    Example:
        >>> class_colours("camvid", np.array([1, 11]), unknown=11).tolist()
        [[128, 0, 0], [0, 0, 0]]
    """
    colours = PALETTES[palette][classes % len(PALETTES[palette])]
    return np.where((classes == unknown)[..., None], np.uint8(0), colours)


def value_colours(values: np.ndarray) -> np.ndarray:
    """Values (…), −1 to 1 → RGB (…, 3) uint8 from dark violet to yellow.

    Linear between nine colours of matplotlib's "viridis".

    Example:
        >>> value_colours(np.array([-1.0, 0.0, 2.0])).tolist()
        [[68, 1, 84], [33, 144, 141], [253, 231, 37]]
    """
    at = np.linspace(-1, 1, len(_VIRIDIS))
    channels = [np.interp(values, at, channel) for channel in np.transpose(_VIRIDIS)]
    return np.round(np.stack(channels, axis=-1)).astype(np.uint8)


def channel_colours(images: np.ndarray) -> np.ndarray:
    """Images of any number of channels (…, channels), 0 to 255 → RGB (…, 3) uint8.

    One channel is grey, two are grey and alpha, three RGB and four RGB and alpha, as in PNG files;
    of more the first three are RGB. Alpha is over white: c α/255 + 255 − α. No channel is black.

    Example:
        >>> channel_colours(np.array([[7], [9]])).tolist()
        [[7, 7, 7], [9, 9, 9]]
        >>> channel_colours(np.array([[10, 20, 30, 255], [10, 20, 30, 0]])).tolist()
        [[10, 20, 30], [255, 255, 255]]
    """
    values = np.clip(images, 0, 255).astype(np.uint8)
    channels = values.shape[-1]
    if channels == 0:
        return np.zeros((*values.shape[:-1], 3), np.uint8)
    colours = values[..., :3] if channels > 2 else values[..., :1].repeat(3, axis=-1)
    if channels not in (2, 4):
        return colours
    alpha = values[..., -1:] / 255
    return np.round(colours * alpha + 255 * (1 - alpha)).astype(np.uint8)
