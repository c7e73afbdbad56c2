"""Embeddings: what the encoding keeps, and how good its stated moments are."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdiffusion_jax.modalities import Embedding

LATENT = (8, 8, 1)
X = np.random.default_rng(0).normal(size=(4, 32)).astype(np.float32)


def bound(embedding):
    variables = embedding.init(jax.random.key(0), X, method="encode")
    return functools.partial(embedding.apply, variables)


@pytest.mark.parametrize("spread", [0.1, 1.0, 4.0])
@pytest.mark.parametrize("head_kind", ["gaussian", "cosine"])
def test_stated_moments_of_the_encoding(head_kind, spread):
    """Within a few percent of Monte Carlo where 32 dimensions fill 64 entries."""
    embedding = Embedding(latent=LATENT, dims=32, head_kind=head_kind)
    call = bound(embedding)

    @jax.jit
    def run(mean):
        head = {"mean": mean, "log_std": jnp.full_like(mean, np.log(spread))}
        if head_kind == "cosine":
            unit = mean / jnp.linalg.norm(mean, axis=-1, keepdims=True)
            head = {"natural": 32 / spread**2 * unit}
        many = jax.tree.map(lambda leaf: jnp.repeat(leaf[:1], 8192, axis=0), head)
        codes = call(embedding.draw(jax.random.key(1), many), method="encode")
        return (
            codes.mean(0) - call(head, method="expected_encoding")[0],
            codes.var(0) - call(head, method="encoding_variance")[0],
            codes.var(0),
        )

    mean_error, variance_error, variance = map(np.asarray, run(jnp.asarray(X)))
    assert np.sqrt((mean_error**2).mean()) < 0.02
    assert np.abs(variance_error).mean() < 0.1 * variance.mean() + 0.01
    assert 0.001 < variance.mean() < 1.01


def test_only_the_gaussian_kind_keeps_the_length():
    for head_kind, same in (("cosine", True), ("gaussian", False)):
        call = bound(Embedding(latent=LATENT, dims=32, head_kind=head_kind))
        one, twice = call(X, method="encode"), call(3 * X, method="encode")
        assert (np.abs(one - twice).max() < 1e-4) == same


def test_cosine_depends_on_the_angle_alone():
    """log p differs by κ times the difference of the cosines."""
    embedding = Embedding(latent=LATENT, dims=32, head_kind="cosine")
    mu = X[:1] / np.linalg.norm(X[:1])
    head = {"natural": jnp.asarray(np.repeat(7 * mu, 4, axis=0))}
    log_prob = np.asarray(embedding.log_prob(head, jnp.asarray(5 * X)))
    cosine = (X @ mu[0]) / np.linalg.norm(X, axis=1)
    np.testing.assert_allclose(log_prob - log_prob[0], 7 * (cosine - cosine[0]), atol=1e-4)
    assert embedding.num_dims == 31
    assert embedding.show(X)[0].endswith("…")


@pytest.mark.parametrize("scale", [1e-3, 1.0, 400.0])
def test_half_precision_keeps_directions_of_any_length(scale):
    """Squares above 65,504 overflow in it."""
    embedding = Embedding(latent=LATENT, dims=32, head_kind="cosine")
    half = jnp.asarray(scale * X, jnp.float16)
    whole = half.astype(jnp.float32)
    call = bound(embedding)
    np.testing.assert_array_equal(call(half, method="encode"), call(whole, method="encode"))
    head = {"natural": jnp.asarray(7 * X)}
    log_prob = np.asarray(embedding.log_prob(head, half))
    np.testing.assert_array_equal(log_prob, embedding.log_prob(head, whole))
    assert np.ptp(log_prob - np.asarray(embedding.log_prob(head, -whole))) > 1


@pytest.mark.parametrize("head_kind", ["gaussian", "cosine"])
@pytest.mark.parametrize("dims", [3, 4, 5])
def test_an_encoding_holds_what_it_is_one_to_one_of(head_kind, dims):
    """By the rank of its derivative: as many directions of x change it as the density has."""
    embedding = Embedding(latent=(2, 2, 1), dims=dims, head_kind=head_kind)
    x = jnp.asarray(X[:1, :dims])
    variables = embedding.init(jax.random.key(0), x, method="encode")
    derivative = jax.jacobian(lambda x: embedding.apply(variables, x, method="encode"))(x)
    singular = np.linalg.svd(np.asarray(derivative).reshape(4, dims), compute_uv=False)
    assert embedding.holds == (np.sum(singular > 1e-4) == embedding.num_dims)


@pytest.mark.parametrize("head_kind", ["gaussian", "cosine"])
@pytest.mark.parametrize("rms", [1280**-0.5, 0.2, 0.4, 1.0])
def test_vectors_whose_encodings_are_nearly_equal_are_suspicious(head_kind, rms):
    """Less than half of E(x) then differs from example to example."""
    x = rms * np.random.default_rng(0).normal(size=(64, 1280)).astype(np.float32)
    embedding = Embedding(latent=LATENT, dims=1280, head_kind=head_kind)
    codes, _ = jax.jit(lambda x: embedding.init_with_output(jax.random.key(0), x, method="encode"))(
        x
    )
    differs = float(np.var(codes, axis=0).mean())
    suspicion = embedding.suspicion(highest=float(x.max()), rms=float(np.sqrt((x**2).mean())))
    assert (suspicion is not None) == (differs < 0.5)
    if suspicion:
        assert f"mean square of {rms:.2g}," in suspicion
        assert 'head_kind="cosine"' in suspicion


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"head_kind": "cosin"}, "`head_kind`: got 'cosin', .* did you mean 'cosine'"),
        ({"head_kind": "cosine", "dims": 1}, "`dims`: got 1, expected 2 or more"),
        ({"dims": 0}, "`dims`: got 0, expected 1 or more"),
    ],
)
def test_bad_fields(fields, words):
    with pytest.raises(ValueError, match=words):
        Embedding(latent=LATENT, **fields)
