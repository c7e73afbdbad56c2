"""Pictures that are drawn for tests, and what NumPy and Pillow make of them."""

import struct
import zlib

import numpy as np
from PIL import Image

from mmdiffusion_jax.data import folder
from mmdiffusion_jax.data.prepared import open_tfds

RNG = np.random.default_rng(0)


def noise(*shape, most=256, dtype=np.uint8):
    return RNG.integers(0, most, shape).astype(dtype)


def save(pixels, path, mode=None, **options):
    """Saves pixels, and makes the folders above; returns the image."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image = image if mode is None else image.convert(mode)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return image


def grey_png(numbers, bits):
    """The bytes of a PNG file of grey levels (height, width) of so many bits, by its definition."""
    digits = np.unpackbits(numbers[..., None].astype(np.uint8), axis=-1)[..., -bits:]
    lines = np.packbits(digits.reshape(len(numbers), -1), axis=-1)
    head = struct.pack(">IIBBBBB", *numbers.shape[::-1], bits, 0, 0, 0, 0)
    pixels = zlib.compress(np.pad(lines, ((0, 0), (1, 0))).tobytes())
    parts = ((b"IHDR", head), (b"IDAT", pixels), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(part)) + name + part + struct.pack(">I", zlib.crc32(name + part))
        for name, part in parts
    )


def photos(place, names=range(12), size=(6, 8)):
    """PNG pictures of noise: {name: pixels}."""
    pixels = {str(name): noise(*size, 3) for name in names}
    for name, values in pixels.items():
        save(values, place / f"{name}.png")
    return pixels


def options(place, size=(6, 8), **changes):
    return folder.FolderOptions(
        str(place), size, **{"test_share": 0.4, "crop": "stretch"} | changes
    )


def read(prepared):
    """{file without its ending: {column: value}} of both splits, texts too."""
    import tensorflow_datasets as tfds

    rows = {}
    builder = tfds.builder_from_directory(prepared.folder)
    for split in ("train", "test"):
        source = open_tfds(prepared.folder, split)
        columns = source.take(np.arange(len(source)))
        texts = list(builder.as_data_source(split=split))
        for index, row in enumerate(texts):
            name = row["file"].decode().rpartition(".")[0]
            assert name not in rows
            rows[name] = {column: values[index] for column, values in columns.items()}
            rows[name] |= {"split": split} | (
                {"caption": row["caption"].decode()} if "caption" in row else {}
            )
    return rows


def prepare(place, out, **changes):
    prepared = folder.prepare(options(place, **changes), str(out))
    return prepared, read(prepared)
