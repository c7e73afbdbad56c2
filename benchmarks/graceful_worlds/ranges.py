"""Where updates work: scales and widths of compatible encoders, weights of distillation."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.graceful_worlds.encoders import train_encoder
from benchmarks.graceful_worlds.flips import Arm, arm_rows
from benchmarks.graceful_worlds.worlds import Mlp, World, accuracy, keys_of, precision, worlds
from mmdiffusion_jax import graceful

WIDTHS, SCALES = (8, 16, 32), (4.0, 8.0, 16.0, 32.0)
WEIGHTS = (0.003, 0.01, 0.03, 0.1, 1.0)
"""λ of focal distillation with (α, β) = (0, 1)."""


def range_rows(seeds: Sequence[int]) -> dict[str, np.ndarray]:
    """Figures over ranges of what one has to choose; one value a seed.

    Args:
        seeds: fresh ones.
    """
    arms = {"free": Arm()} | {f"weight_{weight:g}": Arm(0.0, weight) for weight in WEIGHTS}
    flips = arm_rows(seeds, arms, {})
    kept = ("negative_flip_cut_weight_", "error_increase_weight_")
    figures = {name: values for name, values in flips.items() if name.startswith(kept)}
    for width in WIDTHS:
        figures |= _scale_rows(seeds, width)
    return figures


def _scale_rows(seeds: Sequence[int], width: int) -> dict[str, np.ndarray]:
    world = worlds(seeds)
    update = functools.partial(_update, width)
    over_scales = jax.vmap(update, in_axes=(None, None, 0))
    rows = jax.jit(jax.vmap(over_scales, in_axes=(0, 0, None)))(
        keys_of(seeds), world, jnp.array(SCALES)
    )
    rows = jax.device_get(rows)
    figures = {}
    for index, scale in enumerate(SCALES):
        tail = f"d{width}_scale{scale:g}"
        for name, queries in (("old_old", "old"), ("new_old", "new")):
            figures[f"map_{name}_{tail}"] = precision(
                rows[queries][:, index], rows["old"][:, index], world["y_test"]
            )
        figures[f"cross_map_over_old_{tail}"] = (
            figures[f"map_new_old_{tail}"] - figures[f"map_old_old_{tail}"]
        )
        figures[f"new_accuracy_{tail}"] = rows["accuracy"][:, index]
    return figures


def _update(width: int, key: jax.Array, world: World, scale: jax.Array) -> dict[str, jax.Array]:
    old_net, new_net = Mlp((64, width)), Mlp((256, width))
    old_key, new_key = jax.random.split(key)
    old = train_encoder(old_net, old_key, world["x_old"], world["y_old"], scale=scale)
    new = train_encoder(
        new_net, new_key, world["x_new"], world["y_new"], [old["head"]], scale=scale
    )
    embeddings = new_net.of(new["net"], world["x_test"])
    logits = graceful.cosine_logits(embeddings, new["head"], scale)
    return {
        "old": old_net.of(old["net"], world["x_test"]),
        "new": embeddings,
        "accuracy": accuracy(logits, world["y_test"]),
    }
