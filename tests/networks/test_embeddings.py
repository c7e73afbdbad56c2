"""The fixed embeddings against those of diffusers."""

import jax
import numpy as np
import torch
from diffusers.models.embeddings import get_2d_sincos_pos_embed, get_timestep_embedding

from mmdiffusion_jax.networks.embeddings import grid_embedding, time_embedding


def test_positions():
    want = get_2d_sincos_pos_embed(24, 5, base_size=5, output_type="pt")
    np.testing.assert_allclose(grid_embedding(5, 5, 24), np.asarray(want), atol=1e-5)


def test_positions_of_a_rectangle_are_a_part_of_the_squares():
    square = grid_embedding(5, 5, 24).reshape(5, 5, 24)
    np.testing.assert_array_equal(grid_embedding(2, 5, 24).reshape(2, 5, 24), square[:2])
    np.testing.assert_array_equal(grid_embedding(5, 3, 24).reshape(5, 3, 24), square[:, :3])


def test_times():
    t = np.array([0, 1, 13, 50])
    angles = torch.tensor(t * 999.0 / 50, dtype=torch.float32)
    want = get_timestep_embedding(angles, 12, flip_sin_to_cos=True, downscale_freq_shift=0)
    got = jax.jit(lambda t: time_embedding(t, 50, 12, time_scale=999.0))(t)
    np.testing.assert_allclose(got, want.numpy(), atol=2e-4)
