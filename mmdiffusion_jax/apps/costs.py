"""The cost of a training step: operations that the compiler counts, and measured time."""

import dataclasses
import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from mmdiffusion_jax import data, experiment, files, training
from mmdiffusion_jax.baselines import Cost

_ROUNDS, _STEPS = 12, 3
# What a step costs does not depend on them.
_BESIDE_A_STEP = ("seed", "data", "sampling", "evaluation")


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


def kept_costs(
    parts: Mapping[str, ConfigDict], columns: Mapping[str, np.ndarray], file: Path
) -> dict[str, Cost]:
    """As `measure_costs`, but for those that an earlier call has measured and kept in `file`.

    The steps of runs are counted by their costs, so a later call has to count with the same.

    Args:
        parts: {name: config}.
        columns: as `measure_costs` has them.
        file: JSON, {name: cost and a digest of the config}; made, or added to.
    """
    kept = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    digests = {name: _digest(config) for name, config in parts.items()}
    missing = {n: c for n, c in parts.items() if kept.get(n, {}).get("config") != digests[n]}
    if missing:
        for name, cost in measure_costs(missing, columns).items():
            kept[name] = {**dataclasses.asdict(cost), "config": digests[name]}
        files.write_text(file, json.dumps(kept, indent=1))
    fields = [field.name for field in dataclasses.fields(Cost)]
    return {name: Cost(**{field: kept[name][field] for field in fields}) for name in parts}


def _digest(config: ConfigDict) -> str:
    values = experiment.read_settings(config).to_dict()
    values = {key: value for key, value in values.items() if key not in _BESIDE_A_STEP}
    values["training"] = {k: v for k, v in values["training"].items() if k != "num_steps"}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
