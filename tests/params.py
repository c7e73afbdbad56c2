"""Parameters of networks for tests, without a compilation for each of them."""

import functools

import jax
import numpy as np

_compiled = functools.cache(jax.jit)


def initial(init, seed=0):
    """Where training starts, by one compiled program for each bound `init`, however often."""
    return _compiled(init)(jax.random.key(seed))


def random_like(init, seed=0):
    """Random parameters of the shapes that `init` gives, of about the scale that it gives."""
    rng = np.random.default_rng(seed)

    def draw(leaf):
        scale = max(np.prod(leaf.shape[:-1]), 1) ** -0.5 if len(leaf.shape) > 1 else 0.1
        return (scale * rng.standard_normal(leaf.shape)).astype(leaf.dtype)

    return jax.tree.map(draw, jax.eval_shape(init, jax.random.key(seed)))
