"""Training losses: perfect models, masks, dropout, weightings, and a model without a framework."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdiffusion_jax import objective, process
from mmdiffusion_jax.model import (
    Diffusion,
    ModalityFunctions,
    ModelFunctions,
    Prediction,
    categorical_log_prob,
    gaussian_log_prob,
)
from mmdiffusion_jax.process import Process
from tests import plain_model
from tests.linear_world import LinearWorld
from tests.shown_world import ShownWorld


@pytest.mark.parametrize("target", process.TARGETS)
def test_a_model_that_knows_the_answer_has_no_error(target):
    schedule = process.cosine_schedule(10)
    weights = process.modality_weights(schedule, {})
    x = jnp.full((64, 3), 0.5)

    def denoise(z_t, t):
        # The data is one point, so the noise can be read off the state.
        bar = schedule.alpha_bar[t][:, None]
        noise = (z_t - jnp.sqrt(bar) * 0.5) / jnp.sqrt(schedule.noise_variance[t][:, None])
        pair = process.Pivot(jnp.full_like(z_t, 0.5), noise)
        return Prediction(process.from_pivot(schedule, t, pair, target), {})

    point = ModalityFunctions(encode=lambda x: x, log_prob=lambda m, x: -((x - m) ** 2).sum(1))
    model = ModelFunctions(denoise, {"x": point}, "x", target)
    loss, metrics = objective.simple_loss(
        jax.random.key(0),
        Diffusion(Process(schedule, weights), model),
        {"x": x},
        options=objective.LossOptions(timesteps="stratified"),
    )
    assert float(metrics["x/squared_error"].value) < 1e-6
    assert float(loss) == float(metrics["loss"])


@pytest.mark.parametrize("target", process.TARGETS)
def test_squared_error_is_measured_in_the_noise_whatever_the_target(target):
    world = LinearWorld(1, 8)
    batch, _ = world.draw(100)
    plain = world.model()

    def denoise(z_t, t, roles):
        # The same estimate for another target: the model's own shifted state is what it refers to;
        # training measures against the true shifted state, so give both the true drift.
        answer = plain.denoise(z_t, t, roles)
        shift = process.shift(world.process, t, z_t, {"x0": encoding})
        pair = process.to_pivot(world.schedule, t, shift, answer.value, "noise")
        value = process.from_pivot(world.schedule, t, pair, target)
        return dataclasses.replace(answer, value=value)

    encoding = plain.modalities["x0"].encode(batch["x0"])
    model = dataclasses.replace(plain, denoise=denoise, target=target)
    losses = [
        objective.simple_loss(jax.random.key(1), world.diffusion(m), batch)[1][
            "p/squared_error"
        ].value
        for m in (plain, model)
    ]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-3)


def loss_of(world, batch, presence=None, **options):
    def loss(batch, presence):
        model = world.model()
        return objective.simple_loss(
            jax.random.key(0),
            world.diffusion(model),
            batch,
            presence,
            options=objective.LossOptions(**options),
        )

    return jax.jit(loss)(batch, presence)


def test_an_absent_modality_changes_nothing():
    world = LinearWorld(2, 6)
    batch, _ = world.draw(8)
    absent = {"x0": jnp.arange(8) % 2 == 0}

    @jax.jit
    def both(x0):
        given = {**batch, "x0": x0}
        simple = loss_of(world, given, absent)[0]
        bound = objective.bound(jax.random.key(0), world.diffusion(), given, absent)
        return simple, bound.total

    rows = jnp.where(absent["x0"][:, None], batch["x0"], 100.0)
    for a, b in zip(both(batch["x0"]), both(rows), strict=True):
        np.testing.assert_array_equal(a, b)
    gradient = jax.jit(jax.grad(lambda x0: both(x0)[0]))(batch["x0"])
    assert float(jnp.abs(gradient[1::2]).max()) == 0
    assert float(jnp.abs(gradient[0::2]).max()) > 0


def test_a_dropped_modality_leaves_the_state_but_not_the_loss():
    world = LinearWorld(1, 6)
    batch, _ = world.draw(8)
    plain, seen = world.model(), []

    def denoise(z_t, t, roles):
        seen.append(z_t)
        return plain.denoise(z_t, t, roles)

    model = dataclasses.replace(plain, denoise=denoise)

    def run(x0):
        return objective.simple_loss(
            jax.random.key(0), world.diffusion(model), {**batch, "x0": x0},
            options=objective.LossOptions(dropout={"x0": 1.0}),
        )[1]  # fmt: skip

    first, second = run(batch["x0"]), run(batch["x0"] + 1)
    np.testing.assert_array_equal(seen[0], seen[1])
    assert float(first["x0/loss"].value) != float(second["x0/loss"].value)
    assert float(first["p/squared_error"].value) == float(second["p/squared_error"].value)


def test_at_pure_noise_the_error_is_that_of_the_conditional_mean():
    """E ‖E(x) − E[E(x) | x_0]‖² of the exact law; examples that know nothing keep their t."""
    world = ShownWorld(1, 16, log_snr=(8.0, -16.0))
    batch, _ = world.draw(20_000)

    def errors(task, share):
        options = objective.LossOptions(
            weighting=objective.v_weighting(), tasks={task: 1.0}, pure_noise=share
        )
        _, scalars = objective.simple_loss(
            jax.random.key(0), world.diffusion(), batch, options=options
        )
        return float(scalars["p/squared_error"].value)

    whole = world.covariance
    left = whole[:2, :2] - whole[:2, 2:] @ np.linalg.solve(whole[2:, 2:], whole[2:, :2])
    uniform, half, last = (errors("p | x0", share) for share in (0.0, 0.5, 1.0))
    np.testing.assert_allclose(last, np.trace(left) / 2, rtol=0.03)
    np.testing.assert_allclose(half, (uniform + last) / 2, rtol=0.03)
    assert errors("p, x0", 1.0) == errors("p, x0", 0.0)


def test_weightings():
    snr = jnp.array([0.1, 1.0, 5.0, 50.0])
    np.testing.assert_allclose(objective.min_snr_weighting(5.0)(snr), [1, 1, 1, 0.1], rtol=1e-6)
    np.testing.assert_allclose(
        objective.p2_weighting(2.0, 1.0)(snr), 1 / (1 + np.asarray(snr)) ** 2, rtol=1e-6
    )
    world = LinearWorld(0, 6)
    batch, _ = world.draw(50)
    plain = loss_of(world, batch)[1]["p/squared_error"].value
    doubled = loss_of(world, batch, weighting=lambda snr: 2 * jnp.ones_like(snr))[1]
    np.testing.assert_allclose(2 * plain, doubled["p/squared_error"].value, rtol=1e-6)


def test_every_scalar_of_a_loss_is_a_number():
    world = LinearWorld(1, 6)
    batch, _ = world.draw(8)
    for scalars in (loss_of(world, batch)[1], objective.bound_loss(
        jax.random.key(0), world.diffusion(), batch
    )[1]):  # fmt: skip
        plain = {name: float(each) for name, each in scalars.items()}
        for name, each in scalars.items():
            assert plain[name] == float(getattr(each, "value", each))
    term = objective.LossTerm(jnp.array([1.0, 5.0, 9.0]), jnp.array([1, 1, 0]))
    assert float(objective.LossTerms({"x": term}).reduce()[1]["x"]) == (1 + 5) / 2


def test_what_has_no_scale_need_not_be_finite():
    ones = jnp.ones(3)
    parts = {
        "image": objective.LossTerm(2 * ones, ones),
        "label": objective.LossTerm(ones.at[1].set(jnp.nan), ones, scale=0.0),
    }
    terms = objective.LossTerms(parts)
    loss, scalars = terms.reduce()
    assert loss == 2
    assert jnp.isnan(scalars["label"].value)
    np.testing.assert_array_equal(terms.per_example(), 2 * ones)
    alone = objective.LossTerms({"label": parts["label"]})
    assert alone.reduce()[0] == 0
    np.testing.assert_array_equal(alone.per_example(), 0 * ones)


def test_the_loss_of_the_bound_shows_nothing():
    """Also of a model that shows what is known, as its docstring says."""
    world = ShownWorld(1, 6)
    batch, _ = world.draw(8)
    plain, seen = world.model(), []

    def denoise(z_t, t, roles):
        seen.extend(bool(roles.seen(name).any()) for name in world.everyone)
        return plain.denoise(z_t, t, roles)

    diffusion = world.diffusion(dataclasses.replace(plain, denoise=denoise))
    objective.bound_loss(jax.random.key(0), diffusion, batch)
    assert seen == [False, False]
    options = objective.LossOptions(tasks={"p | x0": 1.0})
    objective.simple_loss(jax.random.key(0), diffusion, batch, options=options)
    assert seen[2:] == [False, True]


@pytest.mark.parametrize(
    "options",
    [{"timesteps": draw} for draw in process.TIMESTEP_DRAWS]
    + [{"logit_normal": (0.0, 3.0)}, {"tasks": {"x | y": 1.0, "y | x": 1.0}, "pure_noise": 0.5}],
    ids=str,
)
@pytest.mark.parametrize("x64", [False, True], ids=["", "x64"])
def test_a_network_gets_whole_t_from_1_to_the_last(options, x64):
    batch, seen = plain_model.batch(200), []

    def denoise(z_t, t, roles):
        seen.append(t)
        return Prediction(0.5 * z_t, {"y": jnp.tanh(z_t)})

    model = plain_model.shared(denoise, sees_roles=True, shows=("x", "y"))
    with jax.enable_x64(x64):
        objective.simple_loss(
            jax.random.key(0),
            Diffusion(plain_model.PROCESS, model),
            batch,
            options=objective.LossOptions(**options),
        )
    (t,) = seen
    assert t.dtype == jnp.int32
    assert (int(t.min()), int(t.max())) == (1, plain_model.SCHEDULE.num_steps)


def test_scales_add_up():
    world = LinearWorld(1, 6)
    batch, _ = world.draw(50)
    loss, metrics = loss_of(world, batch, modality_scales={"x0": 0.3, "p": 0.2})
    want = (
        metrics["p/squared_error"].value
        + 0.3 * metrics["x0/loss"].value
        + 0.2 * metrics["p/loss"].value
    )
    np.testing.assert_allclose(loss, want, rtol=1e-5)


def test_bound_loss_is_the_mean_estimate_per_dimension():
    world = LinearWorld(1, 6)
    batch, _ = world.draw(50)
    arguments = (jax.random.key(2), world.diffusion(), batch)
    loss, metrics = objective.bound_loss(*arguments)
    terms = objective.bound_estimate(*arguments)
    np.testing.assert_allclose(loss, terms.total.mean() / 4, rtol=1e-5)
    np.testing.assert_allclose(metrics["bound/recovery"].value, terms.recovery.mean(), rtol=1e-5)


def test_a_bare_function_trains():
    """No framework: the parameters are a dictionary, the model a closure over it."""
    schedule = process.cosine_schedule(20)
    weights = process.modality_weights(schedule, {"side": "bump"}, given="marginal")

    def data(seed):
        side = jax.random.bernoulli(jax.random.key(seed), 0.5, (512,)).astype(jnp.int32)
        spread = 0.1 * jax.random.normal(jax.random.key(seed + 1), (512, 2))
        return {"point": (2 * side.astype(jnp.float32) - 1)[:, None] + spread, "side": side}

    def model(params):
        def denoise(z_t, t):
            time = (t / 20).astype(jnp.float32)[:, None]
            hidden = jnp.tanh(jnp.concatenate([z_t, time], 1) @ params["in"] + params["bias"])
            return Prediction(hidden @ params["noise"], {"side": hidden @ params["side"]})

        table = jnp.array([[-1.0, 1.0], [1.0, -1.0]])
        return ModelFunctions(
            denoise=denoise,
            modalities={
                "point": ModalityFunctions(
                    encode=lambda x: x,
                    log_prob=lambda m, x: gaussian_log_prob(m, jnp.full_like(m, -2.0), x),
                    num_dims=2,
                ),
                "side": ModalityFunctions(
                    encode=lambda k: table[k],
                    log_prob=categorical_log_prob,
                    expected_encoding=lambda logits: jax.nn.softmax(logits) @ table,
                ),
            },
            primary="point",
        )

    shapes = {"in": (3, 32), "bias": (32,), "noise": (32, 2), "side": (32, 2)}
    params = {
        name: 0.5 * jax.random.normal(jax.random.key(i), shape)
        for i, (name, shape) in enumerate(shapes.items())
    }

    @jax.jit
    def loss(params, key, batch):
        return objective.simple_loss(
            key, Diffusion(Process(schedule, weights), model(params)), batch
        )[0]

    @jax.jit
    def bound(params):
        terms = objective.bound(
            jax.random.key(7), Diffusion(Process(schedule, weights), model(params)), data(100)
        )
        return terms.total.mean()

    @jax.jit
    def descend(params, key):
        gradient = jax.grad(loss)(params, key, data(0))
        return jax.tree.map(lambda p, g: p - 0.2 * g, params, gradient)

    before, bound_before = loss(params, jax.random.key(9), data(100)), bound(params)
    for step in range(200):
        params = descend(params, jax.random.key(step))
    assert loss(params, jax.random.key(9), data(100)) < 0.6 * before
    assert bound(params) < bound_before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"modality_scales": {"q": 1.0}}, "`modality_scales`: got 'q'"),
        ({"modality_scales": {"p": -1.0}}, "got -1.0, expected 0 or more"),
        ({"dropout": {"x": 0.1}}, "`dropout`: got 'x'"),
        ({"dropout": {"x0": 1.1}}, "got 1.1, expected a probability"),
    ],
)
def test_bad_input(options, words):
    world = LinearWorld(1, 6)
    batch, _ = world.draw(5)
    with pytest.raises(ValueError, match=words):
        loss_of(world, batch, **options)
