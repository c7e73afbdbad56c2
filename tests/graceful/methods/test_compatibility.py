"""Heads, prototypes and the loss of backward compatibility against scikit-learn and scipy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.metrics.pairwise import cosine_similarity

from mmdiffusion_jax import graceful


@pytest.fixture
def stored():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(30, 4)).astype(np.float32)
    return rows, np.arange(30) % 3, rng.normal(size=(3, 4)).astype(np.float32)


def test_logits_are_scaled_cosines(stored):
    rows, _, head = stored
    np.testing.assert_allclose(
        graceful.cosine_logits(rows, head, scale=5.0), 5 * cosine_similarity(rows, head), rtol=1e-4
    )


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_vectors_of_any_length_and_precision_become_unit_vectors(stored, dtype):
    """Squares above 65,504 overflow in half precision."""
    rows = jnp.asarray(400 * stored[0], dtype)
    lengths = np.linalg.norm(np.asarray(graceful.unit(rows), np.float64), axis=1)
    np.testing.assert_allclose(lengths, 1, rtol=1e-5)


def test_the_loss_is_the_cross_entropy_of_the_frozen_head(stored):
    rows, labels, head = stored
    wide = np.hstack([rows, np.full((30, 2), 3.0, np.float32)])
    nats = -log_softmax(8 * cosine_similarity(rows, head), axis=-1)[np.arange(30), labels]
    np.testing.assert_allclose(
        graceful.compatible_loss(wide, labels, head), nats, rtol=1e-4, atol=1e-6
    )
    into_rows, into_head = jax.grad(
        lambda rows, head: graceful.compatible_loss(rows, labels, head).sum(), argnums=(0, 1)
    )(jnp.asarray(wide), jnp.asarray(head))
    assert np.abs(into_rows[:, :4]).min() > 0
    assert not into_rows[:, 4:].any()
    assert not into_head.any()


def test_descending_the_loss_makes_a_stranger_readable(stored):
    """Free embeddings come to be decided by the frozen head as their labels say."""
    rows, labels, head = map(jnp.asarray, stored)
    rows = rows[::-1]
    step = jax.jit(jax.grad(lambda rows: graceful.compatible_loss(rows, labels, head).sum()))
    for _ in range(200):
        rows = rows - 0.3 * step(rows)
    assert (graceful.cosine_logits(rows, head).argmax(-1) == labels).all()


def test_prototypes_are_mean_directions(stored):
    rows, labels, _ = stored
    prototypes, counts = graceful.class_prototypes(rows, labels, 4)
    directions = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    for label in range(3):
        mean = directions[labels == label].mean(axis=0)
        np.testing.assert_allclose(prototypes[label], mean / np.linalg.norm(mean), rtol=1e-4)
    assert counts.tolist() == [10, 10, 10, 0]
    assert not prototypes[3].any()


def test_a_head_gets_rows_for_later_classes_and_keeps_its_own(stored):
    rows, labels, head = stored
    longer = graceful.extended_head(head[:2], rows, labels)
    np.testing.assert_array_equal(longer[:2], head[:2])
    np.testing.assert_allclose(longer[2], graceful.class_prototypes(rows, labels, 3)[0][2])
    with pytest.raises(ValueError, match="`embeddings`: got none of class 3, expected stored ones"):
        graceful.extended_head(head, rows, labels + 2 * (labels == 2))


def test_stored_rows_take_their_share_and_no_gradient(stored):
    rows = jnp.asarray(np.tile(stored[0], (100, 1)))
    key = jax.random.key(0)
    mixed = graceful.mix_stored(key, rows, -rows, share=0.3)
    old = (mixed == -rows).all(axis=1)
    assert abs(float(old.mean()) - 0.3) < 4 * (0.3 * 0.7 / 3000) ** 0.5
    np.testing.assert_array_equal(mixed[~old], rows[~old])
    into_new, into_stored = jax.grad(
        lambda new, stored: graceful.mix_stored(key, new, stored).sum(), argnums=(0, 1)
    )(rows, -rows)
    assert (into_new[:, 0] == ~old).all()
    assert not into_stored.any()


def test_fewer_coordinates_than_the_old_encoder_has(stored):
    rows, labels, head = stored
    with pytest.raises(ValueError, match="`embeddings`: got 3 coordinates, expected 4 or more"):
        graceful.compatible_loss(rows[:, :3], labels, head)


def test_a_label_that_is_no_class_makes_the_loss_not_a_number(stored):
    """−1 is not the last class, as an index of NumPy is."""
    rows, labels, head = stored
    wrong = labels.copy()
    wrong[[3, 7]] = -1, 3
    nats = np.asarray(graceful.compatible_loss(rows, jnp.asarray(wrong), head))
    assert np.flatnonzero(np.isnan(nats)).tolist() == [3, 7]
    np.testing.assert_array_equal(
        np.delete(nats, [3, 7]), np.delete(graceful.compatible_loss(rows, labels, head), [3, 7])
    )


def test_one_stored_row_stands_for_no_others(stored):
    rows = jnp.asarray(stored[0])
    with pytest.raises(ValueError, match=r"`stored`: got shape \(1, 4\), expected \(30, 4\)"):
        graceful.mix_stored(jax.random.key(0), rows, rows[:1])
