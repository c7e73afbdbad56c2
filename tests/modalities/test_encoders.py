"""Learned encodings: coarse grids, and the mean over classes."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdiffusion_jax.modalities import Audio, Embedding, Label, Segmentation

LATENT = (4, 4, 1)


def test_the_expected_encoding_of_a_label_is_the_mean_of_its_codes():
    label = Label(latent=LATENT, num_classes=5)
    params = label.init(jax.random.key(0), jnp.arange(5), method="encode")
    rows = label.apply(params, jnp.arange(5), method="encode")
    logits = jax.random.normal(jax.random.key(1), (3, 5))
    got = label.apply(params, logits, method="expected_encoding")
    want = sum(jax.nn.softmax(logits)[:, k, None, None, None] * rows[k] for k in range(5))
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def interpolated(coarse, height, width):
    """Linear in rows and columns between the cells' centres, by NumPy."""
    for axis, size in ((0, height), (1, width)):
        cells = coarse.shape[axis]
        centres = (np.arange(size) + 0.5) * cells / size - 0.5
        coarse = np.apply_along_axis(
            lambda row, at=centres, n=cells: np.interp(at, np.arange(n), row), axis, coarse
        )
    return coarse


@pytest.mark.parametrize(
    ("modality", "values", "table"),
    [
        (Label(latent=(6, 8, 2), num_classes=3, grid=(2, 4)), np.arange(3), "table"),
        (
            Embedding(latent=(6, 8, 2), dims=3, head_kind="cosine", grid=(2, 4)),
            np.eye(3, dtype=np.float32),
            "kernel",
        ),
    ],
)
def test_a_coarse_grid_is_enlarged_linearly(modality, values, table):
    codes, params = modality.init_with_output(jax.random.key(0), values, method="encode")
    coarse = params["params"][table]
    assert coarse.shape == (3, 2, 4, 2)
    for code, row in zip(codes, coarse, strict=True):
        want = interpolated(np.asarray(row), 6, 8)
        np.testing.assert_allclose(code, want / np.sqrt((want**2).mean()), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [Label, Embedding])
@pytest.mark.parametrize("grid", [(5, 4), (0, 1), (2,)])
def test_a_grid_must_fit_into_the_latent(kind, grid):
    with pytest.raises(ValueError, match=r"`grid`: got .* from \(1, 1\) to \(4, 4\)"):
        kind(latent=LATENT, grid=grid)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (Label, {"num_classes": 3}),
        (Embedding, {}),
        (Embedding, {"head_kind": "cosine"}),
        (Audio, {}),
    ],
)
@pytest.mark.parametrize("place", [{"latent": LATENT, "grid": (1, 1)}, {"latent": (1, 1, 1)}])
def test_an_encoding_of_one_number_is_refused(kind, fields, place):
    """Unit RMS would leave its sign."""
    with pytest.raises(
        ValueError, match=r"`grid`: got \(1, 1\) in a latent of 1 channel, .* 2 num"
    ):
        kind(**place, **fields)
    kind(**{**place, "latent": (*place["latent"][:2], 2)}, **fields)


@pytest.mark.parametrize("seed", range(8))
def test_one_number_tells_two_labels_apart_by_every_seed(seed):
    label = Label(latent=LATENT, num_classes=2, grid=(1, 1))
    codes, _ = label.init_with_output(jax.random.key(seed), jnp.arange(2), method="encode")
    np.testing.assert_array_equal(codes, np.array([-1, 1]).reshape(2, 1, 1, 1) * np.ones(LATENT))


class Drawn(nn.Module):
    """The parameters of before: normal draws of any shape."""

    field: str
    shape: tuple[int, ...]

    def setup(self):
        self.param(self.field, nn.initializers.normal(1.0), self.shape)

    def __call__(self):
        return None


@pytest.mark.parametrize(
    ("modality", "x", "field", "shape"),
    [
        (Label(latent=LATENT, num_classes=5), np.arange(5), "table", (5, *LATENT)),
        (Label(latent=LATENT, num_classes=2, grid=(1, 2)), np.arange(2), "table", (2, 1, 2, 1)),
        (Segmentation(latent=(2, 2, 3)), np.zeros((1, 2, 2), int), "codes", (2, 3)),
    ],
)
def test_codes_of_more_numbers_are_drawn_as_ever(modality, x, field, shape):
    """So that a seed gives the model that it gave."""
    codes = modality.init(jax.random.key(3), x, method="encode")["params"][field]
    want = Drawn(field, shape).init(jax.random.key(3))["params"][field]
    np.testing.assert_array_equal(codes, want)
