"""A step against its formulas in NumPy: clip, AdamW, warm-up, average, parts of a batch."""

import dataclasses
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmdiffusion_jax import training

RNG = np.random.default_rng(0)
PARAMS = {"w": RNG.normal(size=(4, 3)), "b": RNG.normal(size=3)}
BATCH = {"x": RNG.normal(size=(8, 4)), "y": RNG.normal(size=(8, 3))}
RATE, WARMUP, STEPS, DECAY, CLIP, AVERAGE = 0.1, 2, 10, 0.5, 0.3, 0.4
OPTIONS = training.TrainingOptions(
    num_steps=STEPS, learning_rate=RATE, warmup_steps=0, weight_decay=DECAY, gradient_clip=CLIP
)


def loss(params, key, batch):
    """Squared errors of a linear map; the key shifts the targets, so that it matters."""
    noise = jax.random.normal(key, batch["y"].shape)
    value = jnp.mean((batch["x"] @ params["w"] + params["b"] - batch["y"] - noise) ** 2)
    return value, {"loss": value}


def single(tree):
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), tree)


def begin(optimiser):
    mesh = training.make_mesh()
    return training.create_state(jax.random.key(3), lambda key: single(PARAMS), optimiser, mesh)


def rate_at(count):
    if count < WARMUP:
        return RATE * count / WARMUP
    return RATE * 0.5 * (1 + np.cos(np.pi * (count - WARMUP) / (STEPS - WARMUP)))


def gradient_of(params, batch, noise):
    """Of the loss above, by hand."""
    slope = 2 / batch["y"].size * (batch["x"] @ params["w"] + params["b"] - batch["y"] - noise)
    return {"w": batch["x"].T @ slope, "b": slope.sum(axis=0)}


def test_steps_are_adamw_behind_a_clip_and_the_average_of_what_they_give():
    optimiser = training.make_optimiser(dataclasses.replace(OPTIONS, warmup_steps=WARMUP))
    state = begin(optimiser)
    take = jax.jit(lambda state: training.take_step(state, single(BATCH), loss, optimiser, AVERAGE))
    params, average = PARAMS, PARAMS
    first, second = (jax.tree.map(np.zeros_like, PARAMS) for _ in range(2))
    for count in range(4):
        noise = np.asarray(jax.random.normal(jax.random.fold_in(state.key, count), (8, 3)))
        gradient = gradient_of(params, BATCH, noise)
        norm = np.sqrt(sum(np.sum(g**2) for g in gradient.values()))
        state, report = take(state)
        np.testing.assert_allclose(report.scalars["gradient_norm"], norm, rtol=1e-4)
        for name, g in gradient.items():
            each = np.sqrt(np.sum(g**2))
            np.testing.assert_allclose(report.scalars[f"gradient_norm/{name}"], each, rtol=1e-4)
        gradient = {name: g * min(1, CLIP / norm) for name, g in gradient.items()}
        first = {name: 0.9 * first[name] + 0.1 * g for name, g in gradient.items()}
        second = {name: 0.999 * second[name] + 0.001 * g**2 for name, g in gradient.items()}
        moved = {}
        for name, value in params.items():
            mean = first[name] / (1 - 0.9 ** (count + 1))
            square = second[name] / (1 - 0.999 ** (count + 1))
            # Matrices alone decay.
            decayed = DECAY * value if value.ndim > 1 else 0
            moved[name] = value - rate_at(count) * (mean / (np.sqrt(square) + 1e-8) + decayed)
        params = moved
        kept = min(AVERAGE, (1 + count) / (10 + count))
        average = {name: kept * average[name] + (1 - kept) * params[name] for name in params}
        chex.assert_trees_all_close(state.params, single(params), rtol=1e-3, atol=1e-5)
        chex.assert_trees_all_close(state.ema, single(average), rtol=1e-3, atol=1e-5)
        assert int(state.step) == count + 1


@pytest.mark.parametrize("width", [0.05, 0.1, 0.2, 0.28])
def test_the_other_averages_have_the_width_they_are_named_by(width):
    """The parameter is the number of the step, and its powers: the average has their moments."""
    count = 4000
    optimiser = optax.sgd(1.0)
    init = lambda key: {"k": jnp.zeros(()), "square": jnp.zeros(())}  # noqa: E731
    mesh = training.make_mesh()
    state = training.create_state(jax.random.key(0), init, optimiser, mesh, widths=(width,))

    def slope(params, key, batch):
        """Its gradient leads from step k to k + 1 of count, and from the square to the next."""
        ahead = jax.lax.stop_gradient(params["k"] * count + 1) / count
        value = -params["k"] / count - params["square"] * (ahead**2 - (ahead - 1 / count) ** 2)
        return value, {"loss": value}

    def one(state, _):
        return training.take_step(state, {}, slope, optimiser, 0.9)[0], None

    state, _ = jax.jit(lambda state: jax.lax.scan(one, state, length=count))(state)
    average = state.averages[str(width)]
    np.testing.assert_allclose(state.params["square"], 1, rtol=1e-3)
    deviation = np.sqrt(average["square"] - average["k"] ** 2)
    np.testing.assert_allclose(deviation, width, rtol=0.01)


def test_parts_of_a_batch_are_rows_a_stride_apart_with_keys_of_their_own():
    optimiser = training.make_optimiser(
        dataclasses.replace(OPTIONS, weight_decay=0.0, gradient_clip=math.inf)
    )
    state = begin(optimiser)
    _, report = training.take_step(state, single(BATCH), loss, optimiser, AVERAGE, accumulate=2)
    key = jax.random.fold_in(state.key, 0)
    gradients = []
    for part in range(2):
        noise = np.asarray(jax.random.normal(jax.random.fold_in(key, part), (4, 3)))
        rows = {name: x[part::2] for name, x in BATCH.items()}
        gradients.append(gradient_of(PARAMS, rows, noise))
    mean = jax.tree.map(lambda *parts: np.mean(parts, axis=0), *gradients)
    norm = np.sqrt(sum(np.sum(g**2) for g in mean.values()))
    np.testing.assert_allclose(report.scalars["gradient_norm"], norm, rtol=1e-4)
    with pytest.raises(ValueError, match=r"^`accumulate`: got 3, expected a divisor of"):
        training.take_step(state, single(BATCH), loss, optimiser, AVERAGE, accumulate=3)


def test_what_is_frozen_stays_and_the_optimisers_state_is_the_same():
    frozen = {"w": True, "b": False}
    states = []
    for stays in (None, frozen):
        optimiser = training.make_optimiser(OPTIONS, stays)
        state = begin(optimiser)
        states.append(training.take_step(state, single(BATCH), loss, optimiser, AVERAGE)[0])
    free, held = states
    chex.assert_trees_all_equal(held.params["w"], single(PARAMS["w"]))
    chex.assert_trees_all_equal(held.params["b"], free.params["b"])
    assert np.abs(free.params["w"] - PARAMS["w"]).min() > 0
    chex.assert_trees_all_equal(held.opt_state, free.opt_state)


def test_a_compiled_step_takes_constants_and_gives_up_its_state():
    optimiser = training.make_optimiser(OPTIONS)

    def shifted(params, key, batch, shift):
        return loss(params, key, batch | {"y": batch["y"] + shift["y"]})

    state, mesh = begin(optimiser), training.make_mesh()
    layouts = training.state_sharding(mesh, state), training.batch_sharding(mesh, 8)
    step = training.make_step(shifted, optimiser, AVERAGE, *layouts, num_constants=1)
    batch = single(BATCH)
    want, _ = training.take_step(state, batch | {"y": batch["y"] + 2}, loss, optimiser, AVERAGE)
    want = jax.device_get(want.params)
    got, _ = step(state, batch, {"y": jnp.float32(2)})
    chex.assert_trees_all_close(got.params, want, rtol=1e-5)
    assert state.params["w"].is_deleted()
