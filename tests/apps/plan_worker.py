"""Plans beside compiled programs of one to eight simulated devices; some by their numbers."""

import json
import math
import runpy
import sys

import jax

from benchmarks.collectives import collectives
from mmdiffusion_jax import apps, experiment, training
from mmdiffusion_jax.apps.plan import _batch

MESHES = ({"data": 2, "fsdp": 4}, {"data": 1}, {"data": 2}, {"data": 4}, {"data": 8}, {"fsdp": 8})


def main(numbers):
    records = []
    for options in [MESHES[number] for number in numbers or range(len(MESHES))]:
        config = runpy.run_path("configs/digits.py")["get_config"]()
        config.training.batch_size = 256
        config.backbone.depth = 1
        config.sharding.min_size = 64
        config.sharding.update(options)
        devices = math.prod(options.values())
        planned = apps.plan(config, devices)
        built = experiment.build(config)
        mesh = training.make_mesh(built.sharding, jax.devices()[:devices])
        step, state = experiment.make_step_and_state(built, mesh)
        compiled = step.lower(state, _batch(built, 256)).compile()
        memory = compiled.memory_analysis()
        records.append(
            {
                "options": options,
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
