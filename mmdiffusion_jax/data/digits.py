"""The handwritten digits that ship with scikit-learn, as a TFDS data set."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

_TEST_FRACTION = 0.2


class Digits(tfds.core.GeneratorBasedBuilder):
    """1,797 real 8×8 digits: 1,437 to train on and 360 to test on, stratified by class.

    The 17 grey levels 0 … 16 are stored as round(level · 255 / 16), from which
    round(pixel · 16 / 255) gives them back.
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
    """Prepares the digits under `data_dir`, once.

    A preparation that was cut off is not taken for a whole one: its folder gets its final name
    only at the end. One whose record files were lost or cut afterwards is made anew.

    Args:
        data_dir: where TFDS data sets live.

    Returns:
        The data set's own folder, for `open_tfds`.
    """
    Path(data_dir).mkdir(parents=True, exist_ok=True)
    tfds.disable_progress_bar()
    builder = Digits(data_dir=str(data_dir), file_format="array_record")
    folder = Path(str(builder.data_dir))
    if folder.exists() and not _whole(folder):
        shutil.rmtree(folder)
        builder = Digits(data_dir=str(data_dir), file_format="array_record")
    builder.download_and_prepare()
    return str(folder)


def _whole(folder: Path) -> bool:
    try:
        splits = tfds.builder_from_directory(folder).info.splits
        return bool(splits) and all(
            len(tfds.builder_from_directory(folder).as_data_source(split=name)) == info.num_examples
            and all(Path(file).is_file() for file in info.filepaths)
            for name, info in splits.items()
        )
    except Exception:
        # Whatever is wrong with it, it is ours to make again from the installed package.
        return False
