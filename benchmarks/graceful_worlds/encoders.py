"""Backward-compatible encoders: the index, the head and the denoiser that are deployed stay."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.graceful_worlds.worlds import (
    NUM_CLASSES,
    Mlp,
    World,
    accuracy,
    cross_entropy,
    draw_rows,
    fit,
    keys_of,
    precision,
    worlds,
)
from mmdiffusion_jax import graceful, process

DIMS, SCALE = 32, 8.0
OLD, NEW = Mlp((64, DIMS)), Mlp((256, DIMS))
DENOISER = Mlp((256, 256, DIMS))
NUM_STEPS = 100
CHAIN = ((150, Mlp((64, DIMS))), (300, Mlp((128, DIMS))), (600, Mlp((192, DIMS))), (1000, NEW))
"""Examples and encoder of four generations."""


def train_encoder(
    net: Mlp,
    key: jax.Array,
    x: jax.Array,
    y: jax.Array,
    heads: Sequence[jax.Array] = (),
    denoiser: Any = None,
    own: float = 1.0,
    stored: jax.Array | None = None,
    scale: jax.Array | float = SCALE,
) -> dict[str, Any]:
    """An encoder with a cosine head of its own, held to deployed ones.

    Args:
        net: the encoder.
        key: of its start and its batches.
        x: (n, pixels).
        y: (n,).
        heads: deployed heads, each (classes, d).
        denoiser: parameters of a deployed denoiser.
        own: weight of the loss by its own head.
        stored: (n, d), embeddings of x by a large encoder to be imitated, as directions.
        scale: of all heads.

    Returns:
        {"net": parameters, "head": (classes, d)}.
    """
    start, head, batches = jax.random.split(key, 3)
    params = {
        "net": net.init(start, x[:1]),
        "head": 0.1 * jax.random.normal(head, (NUM_CLASSES, net.widths[-1])),
    }

    def loss(params: Any, key: jax.Array) -> jax.Array:
        rows_key, noise_key = jax.random.split(key)
        rows = draw_rows(rows_key, len(x))
        embeddings = net.of(params["net"], x[rows])
        total = own * cross_entropy(
            graceful.cosine_logits(embeddings, params["head"], scale), y[rows]
        )
        for old in heads:
            total += graceful.compatible_loss(embeddings, y[rows], old, scale).mean()
        if denoiser is not None:
            total += denoising_error(denoiser, noise_key, latent(embeddings))
        if stored is not None:
            apart = graceful.unit(embeddings) - graceful.unit(stored[rows])
            total += jnp.sum(apart**2, axis=-1).mean()
        return total

    return fit(loss, params, batches)


def latent(embeddings: jax.Array) -> jax.Array:
    """Directions as latents of unit mean square: (n, d) → (n, d)."""
    return graceful.unit(embeddings) * jnp.sqrt(embeddings.shape[-1])


def denoising_error(params: Any, key: jax.Array, z_0: jax.Array) -> jax.Array:
    """E ‖z_0 − denoiser(z_t, t)‖² / d for one t and noise an example."""
    # Not of the module: what launch scripts import must not take a device.
    schedule = process.cosine_schedule(NUM_STEPS)
    t_key, noise_key = jax.random.split(key)
    t = process.uniform_timesteps(t_key, len(z_0), NUM_STEPS)
    noise = jax.random.normal(noise_key, z_0.shape)
    share = schedule.alpha_bar[t][:, None]
    z_t = jnp.sqrt(share) * z_0 + jnp.sqrt(1 - share) * noise
    angles = t[:, None] / NUM_STEPS * jnp.geomspace(1, 100, 8)
    told = jnp.concatenate([z_t, jnp.sin(angles), jnp.cos(angles)], axis=-1)
    return jnp.mean((z_0 - DENOISER.of(params, told)) ** 2)


def _update(key: jax.Array, world: World) -> dict[str, dict[str, jax.Array]]:
    """One seed: what was deployed, and four successors."""
    keys = jax.random.split(key, 6)
    old = train_encoder(OLD, keys[0], world["x_old"], world["y_old"])
    stored = latent(OLD.of(old["net"], world["x_new"]))

    def train_denoiser(params: Any, key: jax.Array) -> jax.Array:
        rows_key, noise_key = jax.random.split(key)
        return denoising_error(params, noise_key, stored[draw_rows(rows_key, len(stored))])

    blank = DENOISER.init(keys[1], jnp.zeros((1, DIMS + 16)))
    denoiser = fit(train_denoiser, blank, keys[2], learning_rate=2e-3)

    # The same start and batches for all: what differs is what they are held to.
    train = functools.partial(train_encoder, NEW, keys[3], world["x_new"], world["y_new"])
    models = {
        "old": (OLD, old),
        "new": (NEW, train([old["head"]], denoiser)),
        "head_only": (NEW, train([old["head"]])),
        "free": (NEW, train()),
    }
    outcomes = {}
    for name, (net, model) in models.items():
        embeddings = net.of(model["net"], world["x_test"])
        errors = jax.vmap(lambda k, e=embeddings: denoising_error(denoiser, k, latent(e)))(
            jax.random.split(keys[4], 32)
        )
        outcomes[name] = {
            "embeddings": embeddings,
            "accuracy": accuracy(
                graceful.cosine_logits(embeddings, model["head"], SCALE), world["y_test"]
            ),
            "old_head": accuracy(
                graceful.cosine_logits(embeddings, old["head"], SCALE), world["y_test"]
            ),
            "denoiser": jnp.mean(errors),
        }
    return outcomes


def _chain(key: jax.Array, world: World) -> dict[str, dict[str, jax.Array]]:
    """One seed: three updates in a row, and the last one without the oldest constraint."""
    heads: list[jax.Array] = []
    outcomes = {}

    def add(name: str, net: Mlp, count: int, constraints: Sequence[jax.Array], number: int) -> Any:
        model = train_encoder(
            net,
            jax.random.fold_in(key, number),
            world["x_new"][:count],
            world["y_new"][:count],
            constraints,
        )
        embeddings = net.of(model["net"], world["x_test"])
        logits = graceful.cosine_logits(embeddings, model["head"], SCALE)
        outcomes[name] = {"embeddings": embeddings, "accuracy": accuracy(logits, world["y_test"])}
        return model["head"]

    for number, (count, net) in enumerate(CHAIN):
        heads.append(add(str(number), net, count, tuple(heads), number))
    count, net = CHAIN[-1]
    last = len(CHAIN) - 1
    add("without_oldest", net, count, heads[1:last], last)
    add("free", net, count, (), last)
    return outcomes


def _across(
    models: Mapping[str, Mapping[str, Any]], truth: Any, queries: str, gallery: str
) -> np.ndarray:
    """mAP of each seed, by the names of the models."""
    return precision(models[queries]["embeddings"], models[gallery]["embeddings"], truth)


def encoder_rows(seeds: Sequence[int]) -> dict[str, np.ndarray]:
    """Figures of the encoders' update, one value a seed.

    Args:
        seeds: fresh ones.
    """
    world = worlds(seeds)
    models = jax.device_get(jax.jit(jax.vmap(_update))(keys_of(seeds), world))
    across = functools.partial(_across, models, world["y_test"])
    cells = [
        graceful.Cells(*values)
        for values in zip(
            across("old", "old"),
            across("new", "old"),
            across("old", "new"),
            across("new", "new"),
            strict=True,
        )
    ]
    best = across("free", "free")
    error = {name: model["denoiser"] for name, model in models.items()}
    return {
        "map_old_old": np.array([cell.old_old for cell in cells]),
        "map_new_old": np.array([cell.new_old for cell in cells]),
        "map_old_new": np.array([cell.old_new for cell in cells]),
        "map_new_new": np.array([cell.new_new for cell in cells]),
        "map_free_free": best,
        "map_free_old": across("free", "old"),
        "is_compatible": np.array([cell.is_compatible for cell in cells]),
        "cross_map_gain": np.array(
            [cell.update_gain(m) for cell, m in zip(cells, best, strict=True)]
        ),
        "self_accuracy_cost": models["free"]["accuracy"] - models["new"]["accuracy"],
        "old_accuracy": models["old"]["accuracy"],
        "old_decoder_gain": models["new"]["old_head"] - models["old"]["old_head"],
        "old_decoder_on_free": models["free"]["old_head"],
        "old_denoiser_mse": error["old"],
        "old_denoiser_mse_ratio": error["new"] / error["old"],
        "old_denoiser_mse_ratio_head_only": error["head_only"] / error["old"],
        "old_denoiser_mse_ratio_free": error["free"] / error["old"],
    }


def chain_rows(seeds: Sequence[int]) -> dict[str, np.ndarray]:
    """Figures along three updates in a row, each held to all before it; one value a seed.

    Args:
        seeds: fresh ones.
    """
    world = worlds(seeds)
    models = jax.device_get(jax.jit(jax.vmap(_chain))(keys_of(seeds), world))
    figures = {}
    for name, model in models.items():
        figures[f"chain_accuracy_{name}"] = model["accuracy"]
        figures[f"chain_map_{name}_own"] = _across(models, world["y_test"], name, name)
        figures[f"chain_map_{name}_oldest"] = _across(models, world["y_test"], name, "0")
    return figures
