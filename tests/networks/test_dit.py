"""The DiT: patches, the options of its blocks against PyTorch, and bad sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.nn import functional

from mmdiffusion_jax.model import Shown
from mmdiffusion_jax.networks import DiT
from mmdiffusion_jax.networks.dit import Block
from mmdiffusion_jax.networks.embeddings import rotary_angles, rotated
from tests.params import drawn

LATENT = (8, 8, 1)


def test_patches_are_local():
    """With one block's gates at zero, a pixel touches its own patch's features alone."""
    net = DiT(LATENT, 1, num_steps=10, width=16, depth=1, num_heads=2)
    z, t = jnp.zeros((1, *LATENT)), jnp.array([3])
    params = jax.jit(net.init)(jax.random.key(0), z, t)
    grid = jax.jit(lambda z: net.apply(params, z, t)[0].grid)
    base, moved = grid(z), grid(z.at[0, 5, 2, 0].set(1.0))
    touched = np.argwhere(np.abs(np.asarray(moved - base)).max(-1) > 0)
    assert touched.tolist() == [[0, 2, 1]]


def test_a_block_against_torch():
    """Root mean squares, normalised queries and keys that are turned by two angles, SwiGLU."""
    first, rows, columns, heads, depth = 2, 2, 3, 2, 8
    block = Block(heads, 3, "float32", "rms", "swiglu", qk_norm=True, places=(first, rows, columns))
    draw = np.random.default_rng(0).normal
    x = draw(size=(2, first + rows * columns, heads * depth)).astype(np.float32)
    condition = draw(size=(2, heads * depth)).astype(np.float32)
    params = drawn(jax.eval_shape(block.init, jax.random.key(0), x, condition))["params"]
    got = jax.jit(lambda p: block.apply({"params": p}, x, condition))(params)

    weights = jax.tree.map(lambda leaf: torch.tensor(np.asarray(leaf)), params)
    layer = lambda x, name: x @ weights[name]["kernel"] + weights[name]["bias"]  # noqa: E731
    rms = functional.rms_norm
    shifts = layer(functional.silu(torch.tensor(condition)), "modulation")[:, None].chunk(6, dim=-1)
    places = [(0, 0)] * first + [(r, c) for r in range(rows) for c in range(columns)]
    angles = torch.tensor([[r, r / 10, c, c / 10] for r, c in places])

    def turned(x, name):
        x = rms(x, (depth,), weights[f"{name}_norm"]["scale"], eps=1e-6)
        pairs = torch.complex(x[..., : depth // 2], x[..., depth // 2 :])
        pairs = pairs * torch.polar(torch.ones_like(angles), angles)
        return torch.cat([pairs.real, pairs.imag], dim=-1)

    tokens = torch.tensor(x)
    normed = rms(tokens, (heads * depth,), eps=1e-6) * (1 + shifts[1]) + shifts[0]
    query, key, value = (
        layer(normed, name).reshape(2, -1, heads, depth).transpose(1, 2)
        for name in ("query", "key", "value")
    )
    mixed = functional.scaled_dot_product_attention(
        turned(query, "query"), turned(key, "key"), value
    )
    mixed = mixed.transpose(1, 2).reshape(tokens.shape)
    tokens = tokens + shifts[2] * layer(mixed, "out")
    normed = rms(tokens, (heads * depth,), eps=1e-6) * (1 + shifts[4]) + shifts[3]
    hidden = functional.silu(layer(normed, "gate")) * layer(normed, "hidden")
    np.testing.assert_allclose(got, tokens + shifts[5] * layer(hidden, "narrow"), atol=1e-4)
    assert weights["hidden"]["kernel"].shape == (heads * depth, 2 * 3 * heads * depth // 3)


def test_turned_queries_and_keys_know_offsets_alone():
    """Attention of one token to another is the same wherever in the grid both are."""
    angles = rotary_angles(5, 5, 8)
    draw = np.random.default_rng(0).normal
    query, key = (np.broadcast_to(np.float32(draw(size=8)), (1, 25, 1, 8)) for _ in range(2))
    scores = np.einsum("blhd,bmhd->lm", rotated(query, angles), rotated(key, angles))
    scores = scores.reshape(5, 5, 5, 5)
    np.testing.assert_allclose(scores[1, 2, 3, 0], scores[0, 4, 2, 2], rtol=1e-4)
    assert abs(scores[1, 2, 3, 0] - scores[1, 2, 0, 3]) > 1e-3


def test_context_tokens_are_read_and_left_out_of_the_map():
    net = DiT(LATENT, 1, num_steps=10, width=16, depth=1, num_heads=2, context_tokens=3)
    z, t = jnp.zeros((1, *LATENT)), jnp.array([3])
    shown = Shown(jnp.zeros((1, 8, 8, 1)), jnp.ones((1, 5)))
    params = drawn(jax.eval_shape(net.init, jax.random.key(0), z, t, None, shown))
    # What the summary adds to the condition is taken away.
    params["params"]["shown_summary"]["kernel"] *= 0
    run = jax.jit(lambda summary: net.apply(params, z, t, None, shown._replace(summary=summary)))
    (features, prediction), (_, other) = run(jnp.ones((1, 5))), run(jnp.zeros((1, 5)))
    assert features.grid.shape == (1, 4, 4, 16)
    assert prediction.shape == (1, *LATENT)
    assert float(jnp.abs(prediction - other).max()) > 1e-3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"patch_size": 3}, "`patch_size`: got 3"),
        ({"num_heads": 5}, "`num_heads`: got 5"),
        ({"frequencies": 1}, "`frequencies`: got 1, expected 0, or 2 and more"),
        ({"positions": "sincoss"}, "`positions`: got 'sincoss'.*did you mean 'sincos'"),
        ({"width": 18, "num_heads": 1}, "`width`: got 18, expected a multiple of 4 for 'sincos'"),
        (
            {"rotary": True, "width": 12, "num_heads": 2},
            "`width`: got 12, expected a multiple of 8",
        ),
        ({"norm": "rmsnorm"}, "`norm`: got 'rmsnorm'.*did you mean 'rms'"),
        ({"feed_forward": "swish"}, "`feed_forward`: got 'swish'"),
        ({"context_tokens": -1}, "`context_tokens`: got -1"),
        ({"dtype": "bfloat61"}, "`dtype`: got 'bfloat61'.*did you mean 'bfloat16'"),
        ({"remat": "dots"}, "`remat`: got 'dots', expected one of 'dots_saveable'"),
    ],
)
def test_bad_sizes(options, words):
    net = DiT(LATENT, 1, num_steps=10, **{"width": 16, "depth": 1, **options})
    with pytest.raises(ValueError, match=words):
        jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, *LATENT)), jnp.array([1]))
