"""Sufficient statistics that are sums: made empty, updated by batches, merged by addition.

Every accumulating metric follows one convention. A frozen dataclass holds sums over examples in
float64 or int64 on the host; `Class.empty(…)` starts it, `update(batch)` returns a new one with
more examples in it, `merge(other)` adds the sums of another shard or device, `compute()` gives the
figure. Any split into batches and shards gives the same figure. Each is a pytree of numbers of 64
bits, which JAX makes 32 of unless `jax_enable_x64` is set: gather the sums of several processes as
bytes or by files, not by collectives. Sums of 32 bits are refused.
"""

import dataclasses
import operator
from typing import Self

import jax
import numpy as np

from mmdiffusion_jax import errors
from mmdiffusion_jax.metrics.rows import checked_rows


class Sums:
    """A dataclass of sums over examples; merging two is addition."""

    def merge(self, other: Self) -> Self:
        """The sums of both.

        Raises:
            ValueError: the other holds sums of other shapes or of 32 bits, or is of another kind.

        Example:
            >>> one, two = (MeanStatistics.empty().update([x]) for x in (1.0, 4.0))
            >>> one.merge(two).compute()
            (2.5, 2.12...)
        """
        shapes = [[np.shape(leaf) for leaf in jax.tree.leaves(each)] for each in (self, other)]
        if type(self) is not type(other) or shapes[0] != shapes[1]:
            raise errors.invalid(
                "other",
                f"{type(other).__name__} of shapes {shapes[1]}",
                f"{type(self).__name__} of shapes {shapes[0]}",
                "merge statistics of one metric and one feature network",
            )
        for leaf in jax.tree.leaves((self, other)):
            dtype = np.asarray(leaf).dtype
            if dtype.itemsize < 8:
                expected = "float64 or int64, in which sums stay exact"
                mend = "gather statistics as bytes, as JAX's collectives make 32 bits of them"
                raise errors.invalid("other", f"sums of {dtype}", expected, mend)
        return jax.tree.map(operator.add, self, other)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class MeanStatistics(Sums):
    """Count, sum and sum of squares of one figure an example, such as PSNR.

    Attributes:
        count: examples so far.
        total: Σ x.
        squares: Σ x².
    """

    count: np.int64
    total: np.float64
    squares: np.float64

    @classmethod
    def empty(cls) -> Self:
        """Before the first example."""
        return cls(np.int64(0), np.float64(0), np.float64(0))

    def update(self, values: np.ndarray) -> Self:
        """With more examples, values (n,)."""
        values = np.asarray(values, np.float64)
        sums = (np.float64(np.sum(x)) for x in (values, np.square(values)))
        return self.merge(type(self)(np.int64(values.size), *sums))

    def compute(self) -> tuple[float, float]:
        """Mean, and standard deviation with n − 1 (0 of a single example).

        Raises:
            ValueError: nothing was counted yet.

        Example:
            >>> MeanStatistics.empty().update([1.0, 3.0]).compute()
            (2.0, 1.414...)
        """
        check_counted(self.count)
        mean = self.total / self.count
        variance = (self.squares - self.count * mean**2) / max(int(self.count) - 1, 1)
        return float(mean), float(np.sqrt(max(variance, 0.0)))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class MomentStatistics(Sums):
    """Count, sum and sum of outer products of feature vectors.

    In float64 the covariance loses about (mean / standard deviation)² · 1e-16 of its value.

    Attributes:
        count: rows so far.
        total: (features,), Σ x.
        outer: (features, features), Σ x xᵀ.
    """

    count: np.int64
    total: np.ndarray
    outer: np.ndarray

    @classmethod
    def empty(cls, num_features: int) -> Self:
        """Before the first row."""
        return cls(np.int64(0), np.zeros(num_features), np.zeros((num_features, num_features)))

    def update(self, x: np.ndarray) -> Self:
        """With more rows, x (n, features).

        Raises:
            ValueError: another rank, other features, or values that are not finite.
        """
        x = checked_rows("x", x)
        return self.merge(type(self)(np.int64(len(x)), x.sum(axis=0), x.T @ x))

    def compute(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean (features,) and covariance (features, features) with n − 1.

        Raises:
            ValueError: fewer than two rows.

        Example:
            >>> mean, covariance = MomentStatistics.empty(1).update([[0.0], [2.0]]).compute()
            >>> mean.tolist(), covariance.tolist()
            ([1.0], [[2.0]])
        """
        check_counted(self.count, at_least=2)
        mean = self.total / self.count
        covariance = (self.outer - self.count * np.outer(mean, mean)) / (self.count - 1)
        return mean, covariance


def check_counted(count: np.int64, at_least: int = 1) -> None:
    """Checks that at least so many examples were counted; else raises a ValueError."""
    if count < at_least:
        raise errors.invalid(
            "statistics", f"{count} examples", f"{at_least} or more", "update them first"
        )
