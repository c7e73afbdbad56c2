"""TFDS data sets: prepared without TensorFlow where they can be, and brought to one size."""

import contextlib
import dataclasses
import io
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from absl import flags
from PIL import Image

from mmdiffusion_jax import errors, ranges
from mmdiffusion_jax.data.prepared import is_fixed_number

Names = Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Layout:
    """Which columns a fixed-size data set has, each {column: feature of the original}.

    Attributes:
        images: stretched to the size by box averages, (height, width, channels) uint8.
        masks: stretched by nearest pixels, (height, width) uint8.
        values: numbers of one shape, as they are.
        size: (height, width).
    """

    images: Names
    masks: Names
    values: Names
    size: tuple[int, int]


def prepare_tfds(dataset: str, folder: str | os.PathLike[str]) -> str:
    """Prepares a TFDS data set as array_record, once.

    Args:
        dataset: its name, "name" or "name/config".
        folder: where TFDS data sets live; manual downloads are looked for in `downloads/manual`.

    Returns:
        The folder of the data set, for `open_tfds`.

    Raises:
        ValueError: an unknown name; a data set that needs TensorFlow or files that one has to
            download by hand; one that cannot be downloaded or prepared.
    """
    tfds.disable_progress_bar()
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
    known = tfds.list_builders(with_community_datasets=False)
    name = dataset.split("/")[0].split(":")[0]
    if name not in known:
        # TFDS has more names than an error can list.
        near = errors.nearest(name, known, cutoff=0.6)
        mend = f"did you mean {near[0]!r}?" if near else "see tensorflow.org/datasets/catalog"
        raise errors.invalid("dataset", repr(dataset), "a name that TFDS knows", mend)
    parent = Path(folder).expanduser()
    try:
        builder = tfds.builder(dataset, data_dir=str(parent), file_format="array_record")
        # TFDS announces its preparation by plain prints.
        with contextlib.redirect_stdout(io.StringIO()):
            builder.download_and_prepare()
    # Builders are other people's code, and raise whatever they meet.
    except Exception as error:
        raise errors.invalid(
            "dataset", f"{dataset!r} ({_first_line(error)})", *_mend(error, parent)
        ) from error
    return str(builder.data_path)


def resize_tfds(folder: str | os.PathLike[str], out: str | os.PathLike[str], layout: Layout) -> str:
    """Copies a prepared data set at one size, an example at a time, into array_record.

    Args:
        folder: of the prepared data set, `…/name/version`.
        out: where the copy's folder is made, `<out>/<name>_<height>x<width>/<version>`.
        layout: the columns.

    Returns:
        The folder of the copy, for `open_tfds`; a whole copy is not made again.

    Raises:
        ValueError: no data set there, no columns, one column twice, an unknown feature or one that
            does not suit, a size below 1.

    Example:
        >>> import tempfile
        >>> from mmdiffusion_jax.data import digits, open_tfds
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     layout = Layout({"image": "image"}, {}, {"label": "label"}, (4, 4))
        ...     copy = resize_tfds(digits.prepare(folder), folder, layout)
        ...     open_tfds(copy, "test").columns["image"]
        ((4, 4, 1), dtype('uint8'))
    """
    if not (Path(folder) / "dataset_info.json").is_file():
        raise errors.invalid(
            "folder", repr(str(folder)), "the folder of a prepared data set", "prepare it first"
        )
    tfds.disable_progress_bar()
    original = tfds.builder_from_directory(folder)
    features = _features(original.info.features, layout)
    columns = ", ".join(f"{ours} = {theirs}" for ours, theirs in sorted(_origins(layout).items()))
    contents = f"{columns} of {original.info.full_name}"
    builder = _FixedSize(original, layout, features, contents, data_dir=str(out))
    path = Path(builder.data_path)
    if path.exists():
        present = tfds.builder_from_directory(path).info.description
        if present != contents:
            raise errors.invalid(
                "out",
                f"{str(path)!r} with {present}",
                f"{contents}, or nothing there",
                "choose another folder",
            )
        return str(path)
    with contextlib.redirect_stdout(io.StringIO()):
        builder.download_and_prepare()
    return str(path)


class _FixedSize(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    VERSION = tfds.core.Version("1.0.0")

    def __init__(
        self,
        original: tfds.core.DatasetBuilder,
        layout: Layout,
        features: tfds.features.FeaturesDict,
        contents: str,
        **kwargs: Any,
    ) -> None:
        self.name = f"{original.info.name}_{layout.size[0]}x{layout.size[1]}"
        self._original, self._layout = original, layout
        self._feature_spec, self._contents = features, contents
        super().__init__(file_format="array_record", **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self, features=self._feature_spec, description=self._contents
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        del dl_manager
        return {str(split): self._generate_examples(split) for split in self._original.info.splits}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        layout = self._layout
        for index, example in enumerate(self._original.as_data_source(split=split)):
            row: dict[str, Any] = {ours: example[name] for ours, name in layout.values.items()}
            for ours, theirs in layout.images.items():
                row[ours] = _stretch(example[theirs], layout.size, Image.Resampling.BOX)
            for ours, theirs in layout.masks.items():
                mask = _stretch(example[theirs], layout.size, Image.Resampling.NEAREST)
                row[ours] = np.asarray(mask)
            yield index, row


def _stretch(x: np.ndarray, size: tuple[int, int], how: Image.Resampling) -> Image.Image:
    image = Image.fromarray(x[..., 0] if x.shape[-1] == 1 else x)
    return image.resize((size[1], size[0]), how)


def _origins(layout: Layout) -> dict[str, str]:
    return {**layout.values, **layout.images, **layout.masks}


def _features(original: tfds.features.FeaturesDict, layout: Layout) -> tfds.features.FeaturesDict:
    count = sum(map(len, (layout.values, layout.images, layout.masks)))
    if not count or count > len(_origins(layout)):
        raise errors.invalid(
            "images, masks, values",
            "a column twice" if count else "no columns",
            "each column once, and at least one",
            "name them",
        )
    if len(layout.size) != 2 or min(layout.size) < 1:
        raise errors.invalid("size", layout.size, "(height, width)", "change it")
    features: dict[str, Any] = {}
    for kind, names, allowed in (("images", layout.images, (1, 3)), ("masks", layout.masks, (1,))):
        for ours, theirs in names.items():
            feature = _feature(original, kind, theirs)
            channels = feature.shape[-1] if isinstance(feature, tfds.features.Image) else None
            if channels not in allowed or feature.np_dtype != np.uint8:
                raise _unsuitable(kind, theirs, feature)
            if kind == "images":
                features[ours] = tfds.features.Image(shape=(*layout.size, channels))
            else:
                features[ours] = tfds.features.Tensor(
                    shape=tuple(layout.size), dtype=np.uint8, encoding="bytes"
                )
    for ours, theirs in layout.values.items():
        feature = _feature(original, "values", theirs)
        info = feature.get_tensor_info()
        if not is_fixed_number(info):
            raise _unsuitable("values", theirs, feature)
        features[ours] = tfds.features.Tensor(shape=info.shape, dtype=info.np_dtype)
    return tfds.features.FeaturesDict(features)


def _feature(features: tfds.features.FeaturesDict, kind: str, name: str) -> Any:
    ranges.check_one_of(kind, name, list(features))
    return features[name]


def _unsuitable(kind: str, name: str, feature: Any) -> ValueError:
    wanted = {
        "images": "8-bit images of 1 or 3 channels",
        "masks": "8-bit images of 1 channel",
        "values": "numbers of one shape",
    }
    return errors.invalid(kind, f"{name!r}, which is {feature}", wanted[kind], "leave it out")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _mend(error: Exception, folder: Path) -> tuple[str, str]:
    """What was expected, and the mend."""
    if isinstance(error, ImportError):
        name = (error.name or "").split(".")[0] or "what it imports"
        return (
            f"a data set that can be prepared without {name}",
            f"install it for the preparation alone (`pip install {name}`); training does without",
        )
    if isinstance(error, AssertionError) and "anual" in str(error):
        place = folder / "downloads" / "manual"
        return "its files, which have to be downloaded by hand", f"put them into {str(place)!r}"
    return "a data set that can be downloaded and prepared", "see the cause, and run it again"
