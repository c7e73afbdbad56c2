"""Fits the encoders of a successor to the deployed ones before it is trained.

Random encoders are far from the deployed ones, and the falling learning rate of a denoiser may not
bring them there. Fitting the encoders alone takes seconds, as its loss needs no noise, no t and no
network.
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import optax
from flax import traverse_util

from mmdiffusion_jax import data, experiment
from mmdiffusion_jax.graceful.updates.bundle import Bundle
from mmdiffusion_jax.graceful.updates.deployed import latent_distance
from mmdiffusion_jax.model import split_presence

_EXAMPLES, _BATCH, _LEARNING_RATE = 2048, 256, 0.03

Leaves = Mapping[tuple[str, ...], Any]
"""{path of a parameter: its value}."""


def aligned_encoders(
    deployed: Bundle,
    built: experiment.Experiment,
    params: Any,
    source: data.Source,
    num_steps: int,
    seed: int = 0,
) -> Leaves:
    """Fits a successor's encoders to the deployed ones: min Σ_i E ‖E_i,new(x_i) − E_i,old(x_i)‖².

    By Adam, with a rate that falls from 0.03 to 0, on batches of 256 of at most 2,048 examples.

    Args:
        deployed: the deployed model.
        built: the successor's experiment.
        params: the parameters that the encoders start from.
        source: the training split.
        num_steps: of Adam.
        seed: of the examples and their order.

    Returns:
        The parameters of the encoders of deployed modalities.
    """
    names = deployed.built.model.modalities
    paths = {path for name in names for path in experiment.encoder_paths(built, name)}
    flat = traverse_util.flatten_dict(params)
    encoders = {path: flat[path] for path in paths}
    if not encoders:
        return encoders
    rng = np.random.default_rng(seed)
    count = min(_EXAMPLES, len(source))
    columns = source.take(np.sort(rng.choice(len(source), count, replace=False)))
    batch = deployed.known_batch(*split_presence(columns))
    optimiser = optax.adam(optax.cosine_decay_schedule(_LEARNING_RATE, num_steps))

    @jax.jit
    def fit(encoders: Leaves, params: Any, old: Any, batch: Any) -> Leaves:
        theirs = deployed.built.model.functions(old)

        def loss(encoders: Leaves, rows: jax.Array) -> jax.Array:
            new = {**traverse_util.flatten_dict(params), **encoders}
            ours = built.model.functions(traverse_util.unflatten_dict(new))
            return latent_distance(ours, theirs, *jax.tree.map(lambda x: x[rows], batch))

        def step(carry: Any, key: jax.Array) -> tuple[Any, None]:
            encoders, state = carry
            rows = jax.random.randint(key, (min(_BATCH, count),), 0, count)
            updates, state = optimiser.update(jax.grad(loss)(encoders, rows), state)
            return (optax.apply_updates(encoders, updates), state), None

        start = (encoders, optimiser.init(encoders))
        (encoders, _), _ = jax.lax.scan(
            step, start, jax.random.split(jax.random.key(seed), num_steps)
        )
        return encoders

    return jax.device_get(fit(encoders, params, deployed.params, batch))
