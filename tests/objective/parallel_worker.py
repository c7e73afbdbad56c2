"""The loss over four simulated devices against its parts, gone through one by one."""

import jax
import jax.numpy as jnp
import numpy as np

from mmdiffusion_jax import objective
from mmdiffusion_jax.model import split_presence
from tests.linear_world import LinearWorld

DEVICES, EACH = 4, 3


def main():
    world = LinearWorld(1, 6)
    batch, _ = world.draw(DEVICES * EACH)
    # One device has no example of x0 at all, the others some.
    batch["x0_present"] = jnp.asarray([0, 0, 0, 1, 1, 0, 1, 0, 0, 1, 1, 1], jnp.float32)
    key, scales = jax.random.key(5), {"p": 0.0, "x0": 0.5}

    def part_loss(scale, key, batch, axis_name=None):
        values, presence = split_presence(batch)
        values = {**values, "p": scale * values["p"]}
        return objective.simple_loss(
            key, world.diffusion(), values, presence,
            options=objective.LossOptions(modality_scales=scales), axis_name=axis_name,
        )  # fmt: skip

    def over_devices(scale, key, batch):
        return part_loss(scale, key, batch, "data")

    def one_by_one(scale):
        parts = []
        for index in range(DEVICES):
            rows = {n: x[index * EACH : (index + 1) * EACH] for n, x in batch.items()}
            parts.append(part_loss(scale, jax.random.fold_in(key, index), rows)[1])
        counts = batch["x0_present"].reshape(DEVICES, EACH).sum(1)
        heads = sum(c * part["x0/loss"].value for c, part in zip(counts, parts)) / counts.sum()
        errors = sum(part["p/squared_error"].value for part in parts) / DEVICES
        return errors + scales["x0"] * heads, {"x0/loss": heads, "p/squared_error": errors}

    gradient, truth = jax.grad(one_by_one, has_aux=True)(1.1)
    mesh = jax.sharding.Mesh(jax.devices(), ("data",))
    sharded = objective.shard_map_loss(over_devices, mesh, "data")
    mapped = jax.pmap(
        objective.pmap_gradient(over_devices, "data"), "data", in_axes=(None, None, 0)
    )
    split = {name: x.reshape(DEVICES, EACH, *x.shape[1:]) for name, x in batch.items()}
    sharded_gradient, metrics = jax.jit(jax.grad(sharded, has_aux=True))(1.1, key, batch)
    replicas, replica_metrics = mapped(1.1, key, split)
    np.testing.assert_allclose(sharded_gradient, gradient, rtol=1e-4)
    np.testing.assert_allclose(replicas, [gradient] * DEVICES, rtol=1e-4)
    for name, value in truth.items():
        np.testing.assert_allclose(metrics[name].value, value, rtol=1e-4)
        np.testing.assert_allclose(replica_metrics[name].value, [value] * DEVICES, rtol=1e-4)
    # The t of the worst example of all, not a mean of those of the parts.
    worst = [
        part_loss(1.1, jax.random.fold_in(key, i),
                  {n: x[i * EACH : (i + 1) * EACH] for n, x in batch.items()})[1]["worst_t"]
        for i in range(DEVICES)
    ]  # fmt: skip
    of_all = max(worst, key=lambda each: float(each.score))
    assert abs(float(of_all.value) - np.mean([float(each.value) for each in worst])) > 0.1
    for place in (metrics["worst_t"], *_of_replicas(replica_metrics["worst_t"])):
        assert float(place) == float(of_all)
        np.testing.assert_allclose(place.score, of_all.score, rtol=1e-4)
    # A mean of the parts' means would be something else.
    assert abs(float(truth["x0/loss"]) - np.mean([
        part_loss(1.1, jax.random.fold_in(key, i),
                  {n: x[i * EACH : (i + 1) * EACH] for n, x in batch.items()})[1]["x0/loss"].value
        for i in range(DEVICES)
    ])) > 1e-3  # fmt: skip


def _of_replicas(stacked):
    """The scalars of each device."""
    return [jax.tree.map(lambda x, place=place: x[place], stacked) for place in range(DEVICES)]


if __name__ == "__main__":
    assert len(jax.devices()) == DEVICES
    main()
    print("equal")
