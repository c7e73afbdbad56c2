"""Retrieval against scikit-learn, and the figures of an update by hand."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score
from sklearn.metrics.pairwise import cosine_similarity

from mmdiffusion_jax import graceful


def world(seed=0, n=40, m=60, d=5, classes=4):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(classes, d))
    columns = []
    for count in (n, m):
        labels = rng.integers(0, classes, count)
        columns += [centres[labels] + rng.normal(size=(count, d)), labels]
    return columns


def by_sklearn(queries, query_labels, gallery, gallery_labels, skip=False):
    first, averages = [], []
    for index, (query, label) in enumerate(zip(queries, query_labels, strict=True)):
        keep = np.arange(len(gallery)) != (index if skip else -1)
        cosines = cosine_similarity(query[None], gallery[keep])[0]
        relevant = gallery_labels[keep] == label
        if relevant.any():
            first.append(relevant[cosines.argmax()])
            averages.append(average_precision_score(relevant, cosines))
    return np.mean(first), np.mean(averages)


def test_figures_are_those_of_scikit_learn():
    queries, query_labels, gallery, gallery_labels = world()
    figures = graceful.retrieve(queries, query_labels, gallery, gallery_labels)
    np.testing.assert_allclose(figures, by_sklearn(queries, query_labels, gallery, gallery_labels))


def test_an_example_does_not_find_itself():
    _, _, rows, labels = world(1)
    other = rows + 0.1
    figures = graceful.retrieve(other, labels, rows, labels, same_examples=True)
    np.testing.assert_allclose(figures, by_sklearn(other, labels, rows, labels, skip=True))


def test_the_nearest_item_is_that_of_scikit_learn():
    queries, _, gallery, _ = world(4)
    cosines = cosine_similarity(queries, gallery)
    assert graceful.nearest(queries, gallery).tolist() == cosines.argmax(axis=1).tolist()
    among = cosine_similarity(gallery) - 9 * np.eye(len(gallery))
    items = graceful.nearest(gallery, gallery, same_examples=True)
    assert items.tolist() == among.argmax(axis=1).tolist()


def test_queries_without_a_relevant_item_are_left_out():
    queries, query_labels, gallery, gallery_labels = world(2)
    query_labels[:7] = 9
    figures = graceful.retrieve(queries, query_labels, gallery, gallery_labels)
    rest = graceful.retrieve(queries[7:], query_labels[7:], gallery, gallery_labels)
    assert figures == rest


def test_the_first_coordinates_meet_a_smaller_gallery():
    queries, query_labels, gallery, gallery_labels = world(3)
    wide = np.hstack([queries, np.full((len(queries), 3), 7.0)])
    assert graceful.retrieve(wide, query_labels, gallery, gallery_labels) == pytest.approx(
        graceful.retrieve(queries, query_labels, gallery, gallery_labels)
    )


def test_where_cosines_tie_the_gallery_is_not_read_in_its_own_order():
    """A constant encoder finds half of a class of two by chance, of a sorted gallery too."""
    labels = np.repeat(np.arange(2), 200)
    rows = np.ones((400, 4))
    for figures in (
        graceful.retrieve(rows, labels, rows, labels, same_examples=True),
        graceful.retrieve(rows, labels, rows, labels),
    ):
        assert figures.mean_average_precision == pytest.approx(0.5, abs=0.04)


def test_gain_and_criterion():
    cells = graceful.Cells(old_old=0.6, new_old=0.7, old_new=0.65, new_new=0.75)
    assert cells.is_compatible
    assert cells.update_gain(unconstrained=0.8) == pytest.approx(0.5)
    assert not graceful.Cells(0.6, 0.6, 0.6, 0.9).is_compatible
    with pytest.raises(ValueError, match=r"`unconstrained`: got 0.5, expected more than M\(old, o"):
        cells.update_gain(0.5)


def test_a_migration_begins_and_ends_with_whole_galleries_and_never_moves_back():
    queries, query_labels, gallery, gallery_labels = world(4)
    stored = np.random.default_rng(5).normal(size=gallery.shape)
    shares = (0.0, 0.3, 0.6, 1.0)
    curve = graceful.migration_curve(queries, query_labels, stored, gallery, gallery_labels, shares)
    assert [share for share, _ in curve] == list(shares)
    for (_, figures), rows in ((curve[0], stored), (curve[-1], gallery)):
        whole = graceful.retrieve(queries, query_labels, rows, gallery_labels)
        assert figures == pytest.approx(whole)
    averages = [figures.mean_average_precision for _, figures in curve]
    assert averages == sorted(averages)


def test_in_a_migration_too_an_example_does_not_find_itself():
    """Its ends are the cells of whole galleries."""
    rng = np.random.default_rng(6)
    old, new = rng.normal(size=(2, 50, 6))
    labels = rng.integers(0, 5, 50)
    curve = graceful.migration_curve(new, labels, old, new, labels, (0, 1), same_examples=True)
    for (_, figures), gallery in zip(curve, (old, new)):
        want = graceful.retrieve(new, labels, gallery, labels, same_examples=True)
        assert figures == pytest.approx(want)
    assert curve[-1][1].top_1 < 0.5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"queries": np.zeros((40, 5))}, "`queries`: got a row of zeros"),
        ({"query_labels": np.zeros(3)}, r"`query_labels`: got shape \(3,\), expected \(40,\)"),
        ({"same_examples": True}, "`gallery`: got 60 rows, expected 40"),
        ({"gallery_labels": np.full(60, 8)}, "`gallery_labels`: got none that a query has"),
        ({"gallery": np.full((60, 5), np.nan)}, "`gallery`: got values that are not finite"),
    ],
)
def test_bad_input(change, words):
    names = ("queries", "query_labels", "gallery", "gallery_labels")
    arguments = {**dict(zip(names, world(), strict=True)), **change}
    with pytest.raises(ValueError, match=words):
        graceful.retrieve(**arguments)


def test_bad_migrations():
    queries, query_labels, gallery, gallery_labels = world()
    with pytest.raises(ValueError, match=r"`shares`: got 1.5, expected shares in \[0, 1\]"):
        graceful.migration_curve(
            queries, query_labels, gallery, gallery, gallery_labels, shares=(1.5,)
        )
    with pytest.raises(ValueError, match="`encoded_anew`: got 3 rows, expected 60"):
        graceful.migration_curve(queries, query_labels, gallery, gallery[:3], gallery_labels)
