"""Retrieval with queries of one encoder in a gallery of another, before and after an update."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mmdiffusion_jax import errors
from mmdiffusion_jax.metrics.rows import checked_rows


class Retrieval(NamedTuple):
    """Figures of one set of queries on one gallery, in [0, 1].

    Attributes:
        top_1: share of queries whose nearest item has their label.
        mean_average_precision: over queries, of all items sorted by cosine.
    """

    top_1: float
    mean_average_precision: float


def retrieve(
    queries: np.ndarray,
    query_labels: np.ndarray,
    gallery: np.ndarray,
    gallery_labels: np.ndarray,
    same_examples: bool = False,
) -> Retrieval:
    """Sorts a gallery by cosine for each query; what has the query's label is relevant.

    The average precision of a query is the mean, over the relevant items, of the share of relevant
    ones among those sorted no later. Items of the same cosine are sorted in one random order, the
    same in each call, as the gallery's own may know the labels. Where one side has more
    coordinates, its first ones count. Queries without a relevant item are left out.

    Args:
        queries: (n, d).
        query_labels: (n,).
        gallery: (m, d').
        gallery_labels: (m,).
        same_examples: whether item i and query i are the same example, which then is left out.

    Raises:
        ValueError: shapes that do not fit, rows of zeros or values that are not finite, or no
            query with a relevant item.

    Example:
        >>> rows, labels = np.eye(2)[[0, 1, 0]], np.array([0, 1, 0])
        >>> retrieve(rows, labels, rows, labels, same_examples=True)
        Retrieval(top_1=1.0, mean_average_precision=1.0)
    """
    cosines = _cosines(queries, gallery, same_examples)
    query_labels, gallery_labels = np.asarray(query_labels), np.asarray(gallery_labels)
    for name, labels, count in (
        ("query_labels", query_labels, len(cosines)),
        ("gallery_labels", gallery_labels, cosines.shape[1]),
    ):
        if labels.shape != (count,):
            raise errors.invalid(name, f"shape {labels.shape}", f"({count},)", "one label a row")
    relevant = query_labels[:, None] == gallery_labels
    if same_examples:
        np.fill_diagonal(relevant, False)
    shuffled = np.random.default_rng(0).permutation(cosines.shape[1])
    order = shuffled[np.argsort(-cosines[:, shuffled], axis=1, kind="stable")]
    hits = np.take_along_axis(relevant, order, axis=1)
    totals = hits.sum(axis=1)
    counted = totals > 0
    if not counted.any():
        raise errors.invalid(
            "gallery_labels", "none that a query has", "some in common", "check the labels"
        )
    precision = np.cumsum(hits, axis=1) / np.arange(1, hits.shape[1] + 1)
    averages = (precision * hits).sum(axis=1)[counted] / totals[counted]
    return Retrieval(float(hits[counted, 0].mean()), float(averages.mean()))


def nearest(queries: np.ndarray, gallery: np.ndarray, same_examples: bool = False) -> np.ndarray:
    """Of each query the item of the largest cosine, the first where several are: (n,).

    Args:
        queries: (n, d).
        gallery: (m, d'); where one side has more coordinates, its first ones count.
        same_examples: as in `retrieve`.

    Raises:
        ValueError: shapes that do not fit, rows of zeros or values that are not finite.

    Example:
        >>> rows = np.array([[1.0, 0.0], [0.0, 1.0], [3.0, 1.0]])
        >>> nearest(rows, rows, same_examples=True).tolist()
        [2, 2, 0]
    """
    return np.argmax(_cosines(queries, gallery, same_examples), axis=1)


def _cosines(queries: np.ndarray, gallery: np.ndarray, same_examples: bool) -> np.ndarray:
    """(n, m), −∞ for a query and the same example."""
    q, g = checked_rows("queries", queries), checked_rows("gallery", gallery)
    features = min(q.shape[1], g.shape[1])
    q, g = _unit_rows("queries", q[:, :features]), _unit_rows("gallery", g[:, :features])
    if same_examples and len(q) != len(g):
        raise errors.invalid("gallery", f"{len(g)} rows", f"{len(q)}, as the queries", "pair them")
    cosines = q @ g.T
    if same_examples:
        np.fill_diagonal(cosines, -np.inf)
    return cosines


def _unit_rows(name: str, rows: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if not lengths.all():
        raise errors.invalid(name, "a row of zeros", "vectors", "check the encoder")
    return rows / lengths


@dataclasses.dataclass(frozen=True)
class Cells:
    """M(query encoder, gallery encoder) of one measure M, in [0, 1].

    Attributes:
        old_old: before the update.
        new_old: queries by the new encoder, the gallery as it is stored.
        old_new: queries by clients that still have the old one, the gallery encoded anew.
        new_new: after all is encoded anew.
    """

    old_old: float
    new_old: float
    old_new: float
    new_new: float

    @property
    def is_compatible(self) -> bool:
        """The criterion of Shen et al., equation 2: M(new, old) > M(old, old)."""
        return self.new_old > self.old_old

    def update_gain(self, unconstrained: float) -> float:
        """(M(new, old) − M(old, old)) / (M* − M(old, old)), Shen et al., section 4.

        The share of the gain of an unconstrained successor, M*, that the update brings without
        encoding the gallery anew.

        Args:
            unconstrained: M(new*, new*) of a successor trained without the old model.

        Raises:
            ValueError: a successor that is no better than the old model.

        Example:
            >>> Cells(old_old=0.5, new_old=0.75, old_new=0.5, new_new=1.0).update_gain(1.0)
            0.5
        """
        if not unconstrained > self.old_old:
            raise errors.invalid(
                "unconstrained",
                unconstrained,
                f"more than M(old, old) = {self.old_old}",
                "there is nothing to gain by this update",
            )
        return (self.new_old - self.old_old) / (unconstrained - self.old_old)


def migration_curve(
    queries: np.ndarray,
    query_labels: np.ndarray,
    stored: np.ndarray,
    encoded_anew: np.ndarray,
    gallery_labels: np.ndarray,
    shares: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0),
    same_examples: bool = False,
) -> list[tuple[float, Retrieval]]:
    """Retrieval with queries of the new encoder while the gallery is being encoded anew.

    Items are encoded anew in one random order, the same in each call.

    Args:
        queries: (n, d), by the new encoder.
        query_labels: (n,).
        stored: (m, d'), the gallery by the old encoder.
        encoded_anew: (m, d), the same items by the new one.
        gallery_labels: (m,).
        shares: of the gallery that is encoded anew.
        same_examples: as in `retrieve`.

    Returns:
        (share, figures) of each share.

    Raises:
        ValueError: as `retrieve`, galleries of different lengths, or a share outside [0, 1].

    Example:
        >>> rows, labels = np.eye(2), np.array([0, 1])
        >>> curve = migration_curve(rows, labels, rows[::-1], rows, labels, shares=(0.0, 1.0))
        >>> [(share, figures.top_1) for share, figures in curve]
        [(0.0, 0.0), (1.0, 1.0)]
    """
    stored, anew = checked_rows("stored", stored), checked_rows("encoded_anew", encoded_anew)
    if len(stored) != len(anew):
        raise errors.invalid(
            "encoded_anew", f"{len(anew)} rows", f"{len(stored)}, as are stored", "pair them"
        )
    outside = [share for share in shares if not 0 <= share <= 1]
    if outside:
        raise errors.invalid("shares", outside[0], "shares in [0, 1]", "correct it")
    features = min(stored.shape[1], anew.shape[1])
    stored, anew = (_unit_rows("gallery", x[:, :features]) for x in (stored, anew))
    order = np.random.default_rng(0).permutation(len(stored))
    curve = []
    for share in shares:
        gallery = stored.copy()
        moved = order[: round(share * len(stored))]
        gallery[moved] = anew[moved]
        figures = retrieve(queries, query_labels, gallery, gallery_labels, same_examples)
        curve.append((float(share), figures))
    return curve
