"""Plans beside compiled programs of one to eight simulated devices; some by their numbers."""

import json
import math
import runpy
import sys

import jax
from ml_collections import ConfigDict

from benchmarks.collectives import collectives
from mmdiffusion_jax import apps, experiment, training
from mmdiffusion_jax.apps.plan import _batch

TWO_BY_FOUR = {"data": 2, "fsdp": 4}
CASES = (
    ("dit", TWO_BY_FOUR),
    ("unet", TWO_BY_FOUR),
    ("uvit", TWO_BY_FOUR),
    ("dit", {**TWO_BY_FOUR, "accumulate": 4}),
    *(("dit", mesh) for mesh in ({"data": 1}, {"data": 2}, {"data": 4}, {"data": 8}, {"fsdp": 8})),
    ("unet", {"data": 8}),
    ("uvit", {"data": 8}),
)


def config_of(name):
    """A small experiment of each backbone; all are shown what tasks know."""
    config = runpy.run_path("configs/digits.py")["get_config"]()
    config.backbone.depth = 1
    if name != "dit":
        fields = {"unet": {"channel_mults": (1, 2), "num_res_blocks": 1}, "uvit": {"depth": 3}}
        width = {"unet": 32, "uvit": 64}[name]
        config.backbone = ConfigDict({"kind": name, "width": width, **fields[name]})
    return config


def main(numbers):
    records = []
    for name, options in [CASES[number] for number in numbers or range(len(CASES))]:
        config = config_of(name)
        config.training.batch_size = 256
        config.sharding.min_size = 64
        mesh_of = {axis: size for axis, size in options.items() if axis != "accumulate"}
        config.training.accumulate = options.get("accumulate", 1)
        config.sharding.update(mesh_of)
        devices = math.prod(mesh_of.values())
        planned = apps.plan(config, devices)
        built = experiment.build(config)
        mesh = training.make_mesh(built.sharding, jax.devices()[:devices])
        step, state = experiment.make_step_and_state(built, mesh)
        compiled = step.lower(state, _batch(built, 256)).compile()
        memory = compiled.memory_analysis()
        records.append(
            {
                "case": f"{name} {options}",
                "flops": [planned.flops, devices * compiled.cost_analysis()["flops"]],
                "arguments": [planned.state_bytes, memory.argument_size_in_bytes],
                "temporary": [
                    planned.activation_bytes + planned.gradient_bytes + planned.gathered_bytes,
                    memory.temp_size_in_bytes,
                ],
                "sent": [
                    planned.sent_bytes,
                    sum(each.sent_bytes for each in collectives(compiled.as_text())),
                ],
            }
        )
    print(json.dumps(records))


if __name__ == "__main__":
    main([int(number) for number in sys.argv[1:]])
