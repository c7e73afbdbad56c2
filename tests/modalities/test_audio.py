"""Spectrograms in the latent: where time and frequency go, heads of any grid, pictures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdiffusion_jax.modalities import Audio, Features

AUDIO = Audio(latent=(4, 6, 2), frames=8, mels=12)


def test_time_runs_along_rows_and_frequency_along_columns_at_first():
    silence = np.full((3, 8, 12), -1, np.float32)
    early, low = silence.copy(), silence.copy()
    early[1, :2] = 1
    low[2, :, :2] = 1

    @jax.jit
    def encode(x):
        variables = AUDIO.init(jax.random.key(0), x, method="encode")
        params = {**variables["params"], "bias": jnp.zeros((4, 6, 2))}
        return AUDIO.apply({"params": params}, x, method="encode")

    def change(encoding):
        """Against the last row and column, which stay silent."""
        return np.abs(encoding / encoding[-1, -1] - 1).max(-1)

    moved = change(np.asarray(encode(early))[1])
    assert (moved[0] > 0.1).all()
    np.testing.assert_allclose(moved[2:], 0, atol=1e-5)
    moved = change(np.asarray(encode(low))[2])
    assert (moved[:, 0] > 0.1).all()
    np.testing.assert_allclose(moved[:, 2:], 0, atol=1e-5)


@pytest.mark.parametrize("grid", [(2, 3), (4, 6), (3, 5)])
def test_heads_fit_any_grid(grid):
    features = Features(jnp.ones((2, *grid, 4)), jnp.ones((2, 4)))
    head, _ = jax.jit(lambda f: AUDIO.init_with_output(jax.random.key(0), f, method="head"))(
        features
    )
    assert head["mean"].shape == head["log_std"].shape == (2, 8, 12)
    assert head["log_std"].min() >= -4


def test_pictures_are_upright():
    x = np.full((1, 8, 12), -1.0)
    x[0, 7, 0] = 1  # the last moment, the lowest band
    picture = AUDIO.show(x)[0]
    assert picture.shape == (12, 8, 3)
    assert picture[-1, -1].tolist() == [253, 231, 37]
    assert (picture.reshape(-1, 3)[:-1] == (68, 1, 84)).all()


def test_bad_fields():
    with pytest.raises(ValueError, match="`mels`: got 0, expected 1 or more"):
        Audio(latent=(4, 4, 1), mels=0)
