"""The data set of an experiment."""

import dataclasses

from mmdiffusion_jax import data, ranges
from mmdiffusion_jax.experiment.sections.reading import check_whole_numbers

SOURCES = ("digits", "tfds", "npz", *data.SMALL_SETS)
"""The kinds of data sets, by the names that configs know them by."""


@dataclasses.dataclass(frozen=True)
class DataOptions:
    """Which data, and where they lie.

    Attributes:
        source: a name in `SOURCES`.
        folder: where prepared data lie, and where data that are unpacked or encoded once are kept.
        train: the training split, or its `.npz` file.
        test: the test split, or its `.npz` file.
        path: the folder of the small sets.
        size: (height, width) that images of the small sets are brought to; zeros leave them.
        spectrogram: (frames, mels) of sound.
        embedder: the file of a network whose features are the embeddings; "" for none.

    Raises:
        ValueError: an unknown source, or a bad size.
    """

    source: str = "digits"
    folder: str = "data"
    train: str = "train"
    test: str = "test"
    path: str = ""
    size: tuple[int, ...] = (0, 0)
    spectrogram: tuple[int, ...] = (32, 32)
    embedder: str = ""

    def __post_init__(self) -> None:
        ranges.check_one_of("data.source", self.source, SOURCES)
        check_whole_numbers("data.size", self.size, 2, 0)
        check_whole_numbers("data.spectrogram", self.spectrogram, 2, 1)
