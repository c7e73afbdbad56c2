"""Tokens: order, padding, and an encoding that is linear and of unit RMS exactly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdiffusion_jax.modalities import Tokens

# 48 entries for 5 positions: nine each, three left over.
TOKENS = Tokens(latent=(4, 4, 3), num_classes=7, length=5, padding=7)
X = np.array([[0, 1, 2, 3, 4], [1, 0, 2, 3, 4], [0, 1, 7, 7, 7]])


def call(method, value):
    variables = TOKENS.init(jax.random.key(0), X, method="encode")
    return np.asarray(TOKENS.apply(variables, value, method=method))


def test_order_padding_and_size():
    first, swapped, padded = call("encode", X)
    assert np.abs(first - swapped).max() > 0.1
    square = (call("encode", X) ** 2).mean((1, 2, 3))
    np.testing.assert_allclose(square, [1, 1, 2 / 5], rtol=1e-5)
    flat = padded.ravel()
    assert (flat[18:] == 0).all()
    np.testing.assert_array_equal(flat[:18], first.ravel()[:18])
    assert TOKENS.show(X)[2] == "0 1"


def test_a_sure_head_is_encoded_as_its_sequence():
    logits = 100 * jax.nn.one_hot(X[:2], 7)
    expected = call("expected_encoding", logits)
    np.testing.assert_allclose(expected, call("encode", X[:2]), atol=1e-5)
    np.testing.assert_allclose(call("encoding_variance", logits), 0, atol=1e-5)


def test_bytes_and_a_padding_they_cannot_hold():
    tokens = Tokens(latent=(4, 4, 3), num_classes=7, length=5, padding=-1)
    x = jnp.asarray(X[:2], jnp.uint8)
    encoding, _ = tokens.init_with_output(jax.random.key(0), x, method="encode")
    np.testing.assert_allclose((encoding**2).mean((1, 2, 3)), 1, rtol=1e-5)


@pytest.mark.parametrize("mark", [-1, 7, 99])
def test_what_a_successor_marks_as_not_known_is_no_class_of_a_model_without_marks(mark):
    tokens = Tokens(latent=(4, 4, 3), num_classes=7, length=5)
    x = jnp.asarray([[0, 1, 2, 3, 4], [0, 1, 2, mark, mark]])
    values, fits = tokens.readable(x)
    assert fits.tolist() == [True, False]
    assert values.min() >= 0
    assert values.max() < 7
    np.testing.assert_array_equal(values[0], x[0])


def test_padding_counts_nothing():
    logits = jax.random.normal(jax.random.key(1), (3, 5, 7))
    log_prob = np.asarray(jax.nn.log_softmax(logits), np.float64)
    chosen = log_prob[np.arange(3)[:, None], np.arange(5), X % 7]
    want = np.where(X == 7, 0, chosen).sum(1)
    np.testing.assert_allclose(TOKENS.log_prob(logits, jnp.asarray(X)), want, rtol=1e-5)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"length": 9}, "`length`: got 9, expected 1 … 8, two entries of the latent"),
        ({"padding": 0}, "`padding`: got 0, expected an integer outside the classes 0 … 1"),
    ],
)
def test_bad_fields(fields, words):
    with pytest.raises(ValueError, match=words):
        Tokens(latent=(4, 4, 1), **fields)
