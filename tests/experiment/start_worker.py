"""On eight simulated devices: first states of runs that begin from a trained model."""

import json
import sys

import jax
import numpy as np
from flax import traverse_util

from mmdiffusion_jax import experiment, training
from tests.experiment.trained import small_config

MESHES = {"data": {"data": 8}, "fsdp": {"fsdp": 8}, "all": {"data": 2, "fsdp": 2, "tensor": 2}}


def report(place, folder):
    """Writes the parameters of each mesh; {mesh: [bytes of them all, bytes on one device]}."""
    sizes = {}
    for name, options in MESHES.items():
        config = small_config(modalities={"other": {"kind": "embedding", "dims": 4}})
        config.init_from = place
        config.sharding.update({**options, "min_size": 64})
        built = experiment.build(config)
        pretrained = experiment.open_pretrained(built, folder)
        mesh = training.make_mesh(built.sharding)
        state = experiment.first_state(built, mesh, pretrained)
        leaves = traverse_util.flatten_dict(state.params, sep="/")
        np.savez(f"{folder}/{name}.npz", **{key: np.asarray(x) for key, x in leaves.items()})
        held = sum(x.addressable_shards[0].data.nbytes for x in leaves.values())
        wanted = experiment.abstract_state(built, mesh)
        alike = jax.tree.map(lambda one, other: one.sharding == other.sharding, state, wanted)
        assert all(jax.tree.leaves(alike)), name
        sizes[name] = [sum(x.nbytes for x in leaves.values()), held]
    return sizes


if __name__ == "__main__":
    print(json.dumps(report(*sys.argv[1:])))
