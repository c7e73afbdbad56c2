"""Parameters of networks for tests, without a compilation for each of them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

_compiled = functools.cache(jax.jit)


def initial(init, seed=0):
    """Where training starts, by one compiled program for each bound `init`, however often."""
    return _compiled(init)(jax.random.key(seed))


def drawn(shapes, seed=0):
    """Parameters of these shapes without zeros, which would hide what comes before them."""
    draw = np.random.default_rng(seed).normal

    def one(path, leaf):
        if leaf.ndim > 1:
            return jnp.float32(draw(size=leaf.shape) * np.prod(leaf.shape[:-1]) ** -0.5)
        return jnp.float32((path[-1].key == "scale") + 0.1 * draw(size=leaf.shape))

    return jax.tree_util.tree_map_with_path(one, shapes)
