"""On eight simulated devices: every mesh takes the same steps; what each sends and holds."""

import json
import math
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.collectives import collectives
from mmdiffusion_jax import training

WIDTH, TOKENS, BATCH, DEPTH = 64, 16, 16, 2
MESHES = {
    "one": {},
    "data": {"data": 8},
    "fsdp": {"fsdp": 8},
    "data_fsdp": {"data": 2, "fsdp": 4},
    "data_tensor": {"data": 4, "tensor": 2},
    "all": {"data": 2, "fsdp": 2, "tensor": 2},
}


class Network(nn.Module):
    """Blocks of two layers, the second back to the width, as the rules know them."""

    @nn.compact
    def __call__(self, x):
        for _ in range(DEPTH):
            x = x + Block()(x)
        return x


class Block(nn.Module):
    @nn.compact
    def __call__(self, x):
        hidden = nn.gelu(nn.Dense(4 * WIDTH, name="hidden")(x))
        return nn.Dense(WIDTH, name="narrow")(hidden)


def loss(params, key, batch):
    """Without randomness, so that parts of a batch make the same gradient as the whole."""
    del key
    value = jnp.mean((Network().apply({"params": params}, batch["x"]) - 1) ** 2)
    return value, {"loss": value}


def init(key):
    return Network().init(key, jnp.zeros((1, TOKENS, WIDTH)))["params"]


def make(options, devices, accumulate=1):
    """(a state, the same abstract, the step)."""
    options = training.ShardingOptions(**options, min_size=WIDTH)
    mesh = training.make_mesh(options, devices)
    # Linear in the gradient, so that another order of summing stays as small as it is.
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1, momentum=0.9))
    ingredients = jax.random.key(0), init, optimiser, mesh, options
    state = training.create_state(*ingredients)
    layout = training.state_sharding(mesh, state, options)
    step = training.make_step(
        loss, optimiser, 0.9, layout, training.batch_sharding(mesh, BATCH), accumulate
    )
    return state, training.abstract_state(*ingredients), step


def leaves(state):
    parts = (state.params, state.ema, state.opt_state)
    return [np.asarray(leaf) for leaf in jax.tree.leaves(parts)]


def largest(one, other):
    return max(float(np.abs(a - b).max()) for a, b in zip(leaves(one), leaves(other), strict=True))


def report(folder):
    batch = {"x": jax.random.normal(jax.random.key(1), (BATCH, TOKENS, WIDTH))}
    differences, reference, states, shapes = {}, None, {}, {}
    for name, options in MESHES.items():
        devices = jax.devices()[:1] if name == "one" else jax.devices()
        state, shapes[name], step = make(options, devices)
        size = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(state.params))
        compiled = step.lower(state, batch).compile()
        sent = {}
        for operation in collectives(compiled.as_text()):
            kind = f"{operation.kind}/{operation.devices}"
            sent[kind] = sent.get(kind, 0) + operation.sent_bytes
        held = sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(state.params))
        batch_here = jax.device_put(batch, compiled.input_shardings[0][1])
        for _ in range(3):
            state, _ = compiled(state, batch_here)
        reference = state if reference is None else reference
        differences[name] = {
            "bytes": 4 * size,
            "held": held,
            "state": sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(state)),
            "arguments": compiled.memory_analysis().argument_size_in_bytes,
            "sent": sent,
            "difference": largest(state, reference),
        }
        with training.Checkpoints(f"{folder}/{name}") as checkpoints:
            checkpoints.save(3, state, {"next_example": 3 * BATCH})
        states[name] = state
    names = list(MESHES)
    for name, saved in zip(names, names[1:] + names[:1]):
        with training.Checkpoints(f"{folder}/{saved}", read_only=True) as checkpoints:
            restored = checkpoints.restore(shapes[name]).state
        same = jax.tree.map(
            lambda a, b: (a.sharding, a.shape, a.dtype) == (b.sharding, b.shape, b.dtype),
            restored,
            states[name],
        )
        differences[name]["restored"] = [
            saved,
            all(jax.tree.leaves(same)),
            largest(restored, states[saved]),
        ]
    state, _, step = make({}, jax.devices()[:2], accumulate=4)
    for _ in range(3):
        state, _ = step(state, batch)
    differences["accumulated"] = largest(state, reference)
    return differences


if __name__ == "__main__":
    print(json.dumps(report(sys.argv[1])))
