"""Heterogeneous models: a small encoder, searched for under a budget, asks a large one's index."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.graceful_worlds.encoders import DIMS, train_encoder
from benchmarks.graceful_worlds.worlds import NUM_PIXELS, Mlp, World, keys_of, precision, worlds
from mmdiffusion_jax import graceful
from mmdiffusion_jax.training import product_flops

LARGE = Mlp((512, 512, DIMS))
SPACE = {"width": (2, 3, 4, 6, 8, 12), "hidden": (0, 1, 2)}
"""Of small encoders: the width of their hidden layers, and how many."""
LESS = 50
"""How many times fewer multiply-adds a small encoder has than the large one."""
NUM_TRIED = 4
_VALIDATION = 200


def macs(net: Mlp) -> int:
    """Multiply-adds of one example, counted in the traced function."""
    x = jnp.zeros((1, NUM_PIXELS))
    params = net.init(jax.random.key(0), x)
    return round(product_flops(net.of, params, x) / 2)


def _small(architecture: Mapping[str, Any]) -> Mlp:
    return Mlp((*[architecture["width"]] * architecture["hidden"], DIMS))


@functools.partial(jax.jit, static_argnames=("net", "held"))
@functools.partial(jax.vmap, in_axes=(None, 0, 0, 0, None))
def _train(
    net: Mlp, key: jax.Array, world: World, large: Mapping[str, Any], held: bool
) -> tuple[jax.Array, jax.Array]:
    """A small encoder, held to the large one or not: its embeddings of validation and of test."""
    x, y = world["x_new"][_VALIDATION:], world["y_new"][_VALIDATION:]
    if held:
        model = train_encoder(
            net, key, x, y, [large["head"]], own=0.0, stored=large["stored"][_VALIDATION:]
        )
    else:
        model = train_encoder(net, key, x, y)
    validation = net.of(model["net"], world["x_new"][:_VALIDATION])
    return validation, net.of(model["net"], world["x_test"])


@jax.jit
@jax.vmap
def _train_large(key: jax.Array, world: World) -> dict[str, Any]:
    x, y = world["x_new"], world["y_new"]
    model = train_encoder(LARGE, key, x[_VALIDATION:], y[_VALIDATION:])
    return {
        "head": model["head"],
        "stored": LARGE.of(model["net"], x),
        "test": LARGE.of(model["net"], world["x_test"]),
    }


def small_query_rows(seeds: Sequence[int]) -> dict[str, np.ndarray]:
    """Figures of the small encoder that the search finds; one value a seed.

    The search sees validation examples, the figures are of test examples.

    Args:
        seeds: fresh ones.
    """
    world = worlds(seeds)
    keys, small_keys = jnp.moveaxis(jax.vmap(jax.random.split)(keys_of(seeds)), 1, 0)
    large = _train_large(keys, world)
    budget = macs(LARGE) // LESS

    def reward(architecture: Mapping[str, Any]) -> float:
        validation, _ = _train(_small(architecture), small_keys, world, large, True)
        labels, gallery = world["y_new"][:, :_VALIDATION], large["stored"][:, :_VALIDATION]
        return float(precision(validation, gallery, labels).mean())

    tried = graceful.search(
        SPACE, lambda a: macs(_small(a)), reward, budget, NUM_TRIED, int(seeds[0]), first=2
    )
    best = _small(tried[0].architecture)
    _, held = _train(best, small_keys, world, large, True)
    _, independent = _train(best, small_keys, world, large, False)
    labels = world["y_test"]
    alone = precision(independent, independent, labels)
    across = precision(held, large["test"], labels)
    count = len(labels)
    return {
        "small_query_map": across,
        "small_query_map_own": alone,
        "small_query_map_gain": across - alone,
        "small_query_map_independent": precision(independent, large["test"], labels),
        "large_query_map": precision(large["test"], large["test"], labels),
        "small_query_macs_ratio": np.full(count, macs(LARGE) / tried[0].cost),
        "small_query_width": np.full(count, tried[0].architecture["width"]),
        "small_query_hidden": np.full(count, tried[0].architecture["hidden"]),
    }
