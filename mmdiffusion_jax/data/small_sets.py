"""Small public data sets from their files: what `config.data.source` names, one opener each.

Every opener takes the folder `path` that holds the sets' folders, `camvid/`, `cifar10/`,
`fashion_mnist/`, `fsdd/` and `mnist/`, the name of a split, and the (height, width) of the images
as in `resize_images`. It raises a ValueError for an unknown split, a size that cannot be had, and
a file that is missing or damaged.
"""

import gzip
import hashlib
import io
import json
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mmdiffusion_jax import errors, ranges
from mmdiffusion_jax.data.audio import log_mel
from mmdiffusion_jax.data.npz import UNREADABLE, listing_of
from mmdiffusion_jax.data.sizes import resize_images, resize_masks
from mmdiffusion_jax.data.sources import ArraySource

_IDX_OF_BYTES = 0x0800
_CAMVID_VOID = 11
_CAMVID_UNSEEN = b"Seq05VD_"
_CIFAR10_TRAIN = 4
_SPEECH_RATE = 8000
_NO_SIZE = (0, 0)
_FILES = {
    "camvid": ("camvid/camvid_128x96.npz",),
    "cifar10": tuple(
        f"cifar10/cifar10_{part}.npz"
        for part in (*(f"train_{part}" for part in range(_CIFAR10_TRAIN)), "test")
    ),
    "fashion_mnist": tuple(
        f"fashion_mnist/{stem}-{kind}-ubyte.gz"
        for stem in ("train", "t10k")
        for kind in ("images-idx3", "labels-idx1")
    ),
    "mnist": ("mnist/mnist.npz",),
    "spoken_digits": ("fsdd/fsdd_8k.npz", "mnist/mnist.npz"),
}
# A gzip file ends in the checksum and the size of what it holds, four bytes each.
_GZIP_END = 8

Folder = str | os.PathLike[str]


def open_fashion_mnist(path: Folder, split: str, size: tuple[int, int] = _NO_SIZE) -> ArraySource:
    """Fashion-MNIST (Xiao et al. 2017): image (28, 28, 1) and label, from its four idx files.

    The splits are "train" (60,000) and "test" (10,000).
    """
    stems = {"train": "train", "test": "t10k"}
    ranges.check_one_of("split", split, stems)
    stem = stems[split]
    folder = Path(path) / "fashion_mnist"
    images = _read_idx(folder / f"{stem}-images-idx3-ubyte.gz", (28, 28))
    labels = _read_idx(folder / f"{stem}-labels-idx1-ubyte.gz", (), high=10)
    return ArraySource(
        {"image": resize_images(images[..., None], size), "label": labels}, name=str(folder)
    )


def open_mnist(path: Folder, split: str, size: tuple[int, int] = _NO_SIZE) -> ArraySource:
    """MNIST (LeCun et al. 1998): image (28, 28, 1) and label, from `mnist/mnist.npz`.

    The splits are "train" (60,000) and "test" (10,000).
    """
    ranges.check_one_of("split", split, ("train", "test"))
    images, labels, file = _read_mnist(path, split)
    return ArraySource({"image": resize_images(images, size), "label": labels}, name=str(file))


def open_cifar10(path: Folder, split: str, size: tuple[int, int] = _NO_SIZE) -> ArraySource:
    """CIFAR-10 (Krizhevsky 2009): image (32, 32, 3) and label, from `cifar10/cifar10_*.npz`.

    The splits are "train" (20,000 of the 50,000 that are published, so scores against statistics of
    all of them are not comparable with published ones) and "test" (10,000).
    """
    parts = {"train": [f"train_{part}" for part in range(_CIFAR10_TRAIN)], "test": ["test"]}
    ranges.check_one_of("split", split, parts)
    folder = Path(path) / "cifar10"
    shapes = {"image": (32, 32, 3), "label": ()}
    read = [
        _read_members(folder / f"cifar10_{part}.npz", shapes, {"label": 10})
        for part in parts[split]
    ]
    images, labels = (np.concatenate([part[name] for part in read]) for name in shapes)
    return ArraySource({"image": resize_images(images, size), "label": labels}, name=str(folder))


def open_camvid(path: Folder, split: str, size: tuple[int, int] = _NO_SIZE) -> ArraySource:
    """CamVid (Brostow et al. 2009): image (96, 128, 3) and mask (96, 128) of 12 classes.

    The classes are sky, building, pole, road, pavement, tree, sign, fence, car, pedestrian,
    bicyclist and void (11), which also fills where `size` pads. The splits are "train" (367), "val"
    (101), "test" (233) and "test_unseen" (171). Frames of "val" and some of "test" continue
    sequences of "train"; "test_unseen" is the part of "test" that does not. The file is
    `camvid_128x96.npz`; masks are resized as by `resize_masks`.
    """
    ranges.check_one_of("split", split, ("train", "val", "test", "test_unseen"))
    stored = split.removesuffix("_unseen")
    file = Path(path) / "camvid" / "camvid_128x96.npz"
    shapes = {f"{stored}_image": (96, 128, 3), f"{stored}_mask": (96, 128)}
    read = _read_members(file, shapes, {f"{stored}_mask": 12})
    images, masks = read.values()
    if split != stored:
        (frames,) = _read_members(file, {f"{stored}_name": ()}, kinds="S").values()
        unseen = np.char.startswith(frames, _CAMVID_UNSEEN)
        images, masks = images[unseen], masks[unseen]
    masks = resize_masks(masks, size, fill=_CAMVID_VOID)
    return ArraySource({"image": resize_images(images, size), "mask": masks}, name=str(file))


def open_spoken_digits(
    path: Folder,
    split: str,
    size: tuple[int, int] = _NO_SIZE,
    spectrogram: tuple[int, int] = (32, 32),
) -> ArraySource:
    """Spoken digits (Jackson et al., FSDD), each paired with an MNIST image of the same digit.

    The columns are image (28, 28, 1), audio (frames, bands) float32 by `log_mel`, label and speaker
    (of 6). Image and audio share the digit and nothing else. `spectrogram` is (frames, mel bands)
    of the second of audio. The splits are "train" (2,700) and "test" (300); the files are
    `fsdd/fsdd_8k.npz` and that of MNIST.
    """
    ranges.check_one_of("split", split, ("train", "test"))
    file = Path(path) / "fsdd" / "fsdd_8k.npz"
    images, labels, _ = _read_mnist(path, split)
    columns = {"audio": (_SPEECH_RATE,), "digit": (), "speaker": (), "mnist_pair": ()}
    shapes = {f"{split}_{name}": shape for name, shape in columns.items()}
    highs = {f"{split}_digit": 10, f"{split}_speaker": 6, f"{split}_mnist_pair": len(images)}
    waveforms, digits, speakers, pairs = _read_members(file, shapes, highs).values()
    if (labels[pairs] != digits).any():
        raise errors.invalid(
            "path",
            f"{str(file)!r}, whose digits are paired with other digits in mnist.npz",
            "the same digit on both sides",
            "restore the two files",
        )
    return ArraySource(
        {
            "image": resize_images(images[pairs], size),
            "audio": log_mel(waveforms, _SPEECH_RATE, *spectrogram),
            "label": digits,
            "speaker": speakers,
        },
        name=str(file),
    )


SMALL_SETS: Mapping[str, Callable[..., ArraySource]] = {
    "camvid": open_camvid,
    "cifar10": open_cifar10,
    "fashion_mnist": open_fashion_mnist,
    "mnist": open_mnist,
    "spoken_digits": open_spoken_digits,
}
"""The openers by the names that configs know them by: (path, split, size) → source."""


def small_set_digest(name: str, path: Folder) -> str:
    """A digest of what the files of a small set hold, wherever they lie.

    It depends on the sizes and the checksums (CRC-32) that the files themselves state, so it costs
    milliseconds; the openers check the contents against those checksums.

    Args:
        name: in `SMALL_SETS`.
        path: the folder that holds the sets' folders.

    Returns:
        64 hexadecimal digits.

    Raises:
        ValueError: an unknown name, or a file that is missing or is no archive.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     (Path(folder) / "mnist").mkdir()
        ...     np.savez(f"{folder}/mnist/mnist.npz", train_label=np.zeros(9))
        ...     len(small_set_digest("mnist", folder))
        64
    """
    ranges.check_one_of("name", name, _FILES)
    stated = {file: _read(Path(path) / file, _stated) for file in _FILES[name]}
    return hashlib.sha256(json.dumps(stated).encode()).hexdigest()


def _stated(stream: io.BufferedReader) -> object:
    """What an archive says that it holds."""
    if not stream.name.endswith(".gz"):
        return listing_of(stream)
    stream.seek(-_GZIP_END, os.SEEK_END)
    return stream.read().hex()


def _read_mnist(path: Folder, split: str) -> tuple[np.ndarray, np.ndarray, Path]:
    file = Path(path) / "mnist" / "mnist.npz"
    shapes = {f"{split}_image": (28, 28), f"{split}_label": ()}
    images, labels = _read_members(file, shapes, {f"{split}_label": 10}).values()
    return images[..., None], labels, file


def _read_idx(file: Path, shape: tuple[int, ...], high: int = 256) -> np.ndarray:
    def read(stream: io.BufferedReader) -> np.ndarray:
        with gzip.open(stream) as whole:
            content = whole.read()
        # Two zeros, the type, the number of axes; then each axis in four bytes, highest first.
        axes = 1 + len(shape)
        head = np.frombuffer(content, ">u4", 1 + axes)
        if head[0] != _IDX_OF_BYTES + axes:
            raise ValueError(f"its first bytes {content[:4].hex()} are not those of such a file")
        return np.frombuffer(content, np.uint8, offset=head.nbytes).reshape(head[1:])

    array = _read(file, read)
    _check(file, "its array", array, shape, high)
    return array


def _read_members(
    file: Path,
    shapes: Mapping[str, tuple[int, ...]],
    highs: Mapping[str, int] | None = None,
    kinds: str = "iu",
) -> dict[str, np.ndarray]:
    def read(stream: io.BufferedReader) -> dict[str, np.ndarray]:
        # Whole members are read, as a checksum is only held against them at their end.
        with zipfile.ZipFile(stream) as members:
            return {
                name: np.lib.format.read_array(io.BytesIO(members.read(f"{name}.npy")))
                for name in shapes
            }

    arrays = _read(file, read)
    for name, array in arrays.items():
        _check(file, repr(name), array, shapes[name], (highs or {}).get(name), kinds)
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise _damaged(file, f"arrays of lengths {lengths}", "as many examples in every array")
    return arrays


def _read(file: Path, read: Callable[[io.BufferedReader], Any]) -> Any:
    if not file.is_file():
        raise errors.invalid(
            "path",
            f"{str(file.parent.parent)!r}, where there is no "
            f"{file.relative_to(file.parent.parent).as_posix()}",
            "the folder of the small data sets",
            "set config.data.path to the folder that holds it",
        )
    try:
        with file.open("rb") as stream:
            return read(stream)
    except UNREADABLE as error:
        raise _damaged(file, f"which cannot be read ({error})", "the whole file") from error


def _check(
    file: Path,
    name: str,
    array: np.ndarray,
    shape: tuple[int, ...],
    high: int | None,
    kinds: str = "iu",
) -> None:
    if array.shape[1:] != shape or array.ndim != 1 + len(shape) or array.dtype.kind not in kinds:
        raise _damaged(
            file,
            f"where {name} has shape {array.shape} and dtype {array.dtype}",
            f"shape (examples, {', '.join(map(str, shape))})",
        )
    if high is not None and array.size and not 0 <= array.min() <= array.max() < high:
        raise _damaged(
            file, f"where {name} has values {array.min()} … {array.max()}", f"0 … {high - 1}"
        )


def _damaged(file: Path, got: str, expected: str) -> ValueError:
    return errors.invalid("path", f"{str(file)!r}, {got}", expected, "restore that file")
