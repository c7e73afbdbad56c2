"""The cost of a training step: operations that the compiler counts, and measured time."""

import time
from collections.abc import Mapping

import jax
import numpy as np
from ml_collections import ConfigDict

from mmdiffusion_jax import data, experiment, training
from mmdiffusion_jax.baselines import Cost

_ROUNDS, _STEPS = 12, 3


def measure_costs(
    parts: Mapping[str, ConfigDict], columns: Mapping[str, np.ndarray]
) -> dict[str, Cost]:
    """The cost of a step of each of several training runs.

    Each round takes a few steps of every run, and the fastest round of a run counts: what else the
    machine does can only slow a step.

    Args:
        parts: {name: config}.
        columns: {column: (batch, …)}, one batch that has all their columns.

    Returns:
        {name: cost}; operations are 0 where the compiler does not count them.
    """
    mesh = training.make_mesh()
    running = {}
    for name, config in parts.items():
        built = experiment.build(config)
        step, state = experiment.make_step_and_state(built, mesh)
        layout = training.batch_sharding(mesh, len(next(iter(columns.values()))))
        batch = jax.device_put(data.select(columns, built.model.modalities), layout)
        compiled, cost = training.compile_step(step, state, batch)
        size = sum(leaf.size for leaf in jax.tree.leaves(state.params))
        state, _ = compiled(state, batch)
        running[name] = [compiled, state, batch, cost.flops, size]
    seconds: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(_ROUNDS):
        for name, entry in running.items():
            compiled, state, batch = entry[:3]
            begun = time.perf_counter()
            for _ in range(_STEPS):
                state, _ = compiled(state, batch)
            jax.block_until_ready(state)
            seconds[name].append((time.perf_counter() - begun) / _STEPS)
            entry[1] = state
    return {name: Cost(entry[3], min(seconds[name]), entry[4]) for name, entry in running.items()}
