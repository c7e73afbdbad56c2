"""The handwritten digits that ship with scikit-learn, as a TFDS data set."""

import contextlib
import fnmatch
import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from mmdiffusion_jax import errors
from mmdiffusion_jax.data.prepared import open_tfds
from mmdiffusion_jax.data.sources import Source

_TEST_FRACTION = 0.2
_COUNTS = {"train": 1437, "test": 360}
_COLUMNS = {"image": ((8, 8, 1), np.dtype(np.uint8)), "label": ((), np.dtype(np.int64))}
_FILES = ("dataset_info.json", "features.json", "digits-*.array_record-*")


class Digits(tfds.core.GeneratorBasedBuilder):
    """1,797 real 8×8 digits: 1,437 to train on and 360 to test on, stratified by class.

    The 17 grey levels 0 … 16 are stored as round(level · 255 / 16), from which
    round(pixel · 16 / 255) gives them back. The split is fixed: the same rows in every preparation.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as data_dir:
        ...     builder = Digits(data_dir=data_dir, file_format="array_record")
        ...     builder.info.features["image"].shape
        (8, 8, 1)
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First release."}

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Handwritten digits of 8×8 pixels and 17 grey levels, with their labels.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(8, 8, 1)),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://archive.ics.uci.edu/dataset/80",
            citation="E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, 1998.",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        del dl_manager
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        digits = load_digits()
        train, test = train_test_split(
            np.arange(len(digits.target)),
            test_size=_TEST_FRACTION,
            stratify=digits.target,
            random_state=0,
        )
        pixels = np.round(digits.images * (255 / 16)).astype(np.uint8)
        return {
            name: self._generate_examples(pixels, digits.target, np.sort(rows))
            for name, rows in (("train", train), ("test", test))
        }

    def _generate_examples(
        self, pixels: np.ndarray, labels: np.ndarray, rows: np.ndarray
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        for row in rows:
            yield int(row), {"image": Image.fromarray(pixels[row]), "label": int(labels[row])}


def prepare(data_dir: str | os.PathLike[str]) -> str:
    """Prepares the digits under `data_dir`, once, and raises what `open_splits` does.

    Returns:
        The folder of the data set, for `open_tfds`.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as data_dir:
        ...     Path(prepare(data_dir)).relative_to(data_dir).as_posix()
        'digits/1.0.0'
    """
    open_splits(data_dir)
    return str(_folder(data_dir))


def open_splits(data_dir: str | os.PathLike[str]) -> dict[str, Source]:
    """Opens the digits under `data_dir`, in memory, and prepares them first where they are not.

    A preparation that was cut off is not taken for a whole one: its folder gets its final name
    only at the end, and of several runs that prepare at once one is kept. Every record is read; a
    preparation with lost or damaged files is made anew, and a whole one is left as it is.

    Returns:
        {split: source}, "train" and "test".

    Raises:
        ValueError: another data set of the same name and version lies there; it is left alone.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as data_dir:
        ...     {split: len(source) for split, source in open_splits(data_dir).items()}
        {'train': 1437, 'test': 360}
    """
    folder = _folder(data_dir)
    parent = folder.parent.parent
    parent.mkdir(parents=True, exist_ok=True)
    tfds.disable_progress_bar()
    if folder.exists():
        if sources := _open_whole(folder):
            return sources
        shutil.rmtree(folder)
    builder = Digits(data_dir=str(parent), file_format="array_record")
    # TFDS announces its preparation by plain prints.
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            builder.download_and_prepare()
    except OSError:
        # Another run that started at the same time may have been faster; its folder is as good.
        if not folder.exists():
            raise
    return _open(folder)


def _folder(data_dir: str | os.PathLike[str]) -> Path:
    return Path(data_dir).expanduser() / Digits.name / str(Digits.VERSION)


def _open(folder: Path) -> dict[str, Source]:
    return {split: open_tfds(folder, split) for split in _COUNTS}


def _open_whole(folder: Path) -> dict[str, Source] | None:
    different = False
    try:
        sources = _open(folder)
        different = any(
            source.columns != _COLUMNS or len(source) != _COUNTS[split]
            for split, source in sources.items()
        )
        if not different:
            return sources
    except ValueError:
        pass
    strange = [
        path.name
        for path in sorted(folder.iterdir())
        if not any(fnmatch.fnmatch(path.name, pattern) for pattern in _FILES)
    ]
    # The folder will be deleted, so it must hold nothing but these digits.
    if strange or different:
        raise errors.invalid(
            "data_dir",
            f"{str(folder)!r} with " + (f"{strange[0]!r}" if strange else "other examples"),
            "nothing there, or these digits",
            "choose another folder for the data",
        )
    return None
