"""Training examples and their mirror images."""

from collections.abc import Sequence

import numpy as np

from mmdiffusion_jax import errors
from mmdiffusion_jax.data.sources import Columns, Source


class Mirrored:
    """A source followed by its mirror image: example n + i is example i, left and right exchanged.

    The named columns are mirrored together, so that a mask still fits its image; the others, such
    as labels, stay as they are. An epoch has every example once each way.

    Args:
        source: n examples.
        names: of columns (examples, height, width, …), such as images and masks of classes.

    Raises:
        ValueError: a name that is no column, or whose examples have no width.

    Example:
        >>> from mmdiffusion_jax.data import ArraySource
        >>> plain = ArraySource({"mask": np.array([[[1, 2]], [[3, 4]]]), "label": np.arange(2)})
        >>> batch = Mirrored(plain, ["mask"]).take(np.array([0, 3]))
        >>> batch["mask"].tolist(), batch["label"].tolist()
        ([[[1, 2]], [[4, 3]]], [0, 1])
    """

    def __init__(self, source: Source, names: Sequence[str]) -> None:
        for name in names:
            if name not in source.columns:
                raise errors.unknown("mirrored", name, source.columns)
            shape = source.columns[name][0]
            if len(shape) < 2:
                raise errors.invalid(
                    "mirrored",
                    f"{name!r}, whose examples have the shape {shape}",
                    "columns (examples, height, width, …)",
                    "leave it out",
                )
        self._source, self._names = source, tuple(names)
        self.columns: Columns = source.columns

    def __len__(self) -> int:
        return 2 * len(self._source)

    def take(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """The examples at `indices` (batch,): {column: (batch, …)}."""
        again, rows = np.divmod(indices, len(self._source))
        batch = self._source.take(rows)
        for name in self._names:
            x = batch[name]
            turned = again.astype(bool).reshape(-1, *[1] * (x.ndim - 1))
            batch[name] = np.where(turned, np.flip(x, axis=2), x)
        return batch
