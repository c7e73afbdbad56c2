"""Operations of programs with loops against the same programs unrolled."""

import jax
import jax.numpy as jnp
import optax
import pytest

from mmdiffusion_jax import training


def chain(unroll):
    def loss(w, x):
        return jnp.sum(jax.lax.scan(lambda x, w: (x @ w, None), x, w, unroll=unroll)[0])

    return jax.jit(jax.grad(loss))


@pytest.mark.parametrize("num_devices", [1, 4])
def test_a_loop_counts_as_often_as_it_runs(num_devices):
    arguments = jnp.ones((7, 64, 64)), jnp.ones((8, 64))
    looped, unrolled = (chain(unroll).trace(*arguments) for unroll in (1, 7))
    flops = training.program_flops(looped, looped.lower().compile(), num_devices)
    # A product forward and two backward.
    assert flops == 3 * 7 * 2 * 8 * 64 * 64 / num_devices
    # Unrolled, the first input needs no gradient.
    assert unrolled.lower().compile().cost_analysis()["flops"] == pytest.approx(
        flops * num_devices, rel=0.1
    )


def test_without_a_loop_the_compiler_counts():
    traced = jax.jit(lambda x: jnp.tanh(x @ x) + x).trace(jnp.ones((4, 4)))
    compiled = traced.lower().compile()
    assert training.program_flops(traced, compiled, 1) == compiled.cost_analysis()["flops"]


def test_a_step_in_parts_computes_as_much_as_a_whole_one():
    mesh, optimiser = training.make_mesh(), optax.adam(1e-3)

    def loss(params, key, batch):
        del key
        value = jnp.mean((batch["x"] @ params["w"] @ params["w"]) ** 2)
        return value, {"loss": value}

    def init(key):
        return {"w": jax.random.normal(key, (128, 128))}

    state = training.create_state(jax.random.key(0), init, optimiser, mesh)
    layouts = training.state_sharding(mesh, state), training.batch_sharding(mesh, 64)
    whole, parts = (
        training.make_step(loss, optimiser, 0.9, *layouts, accumulate=parts) for parts in (1, 4)
    )
    batch = {"x": jnp.ones((64, 128))}
    counted = [training.compile_step(step, state, batch)[1].flops for step in (whole, parts)]
    assert counted[1] == pytest.approx(counted[0], rel=0.1)
