"""Models that see their own first estimate: exact where the second call repeats the first's answer.

The network of these worlds answers exactly at first, and then nothing but what it is shown, so that
samples, bounds and densities are those of the exact network only if the estimate reaches it whole.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import digits
from mmdiffusion_jax import experiment, model, objective, sampling
from mmdiffusion_jax.model import denoise
from tests.shown_world import DIMS, ShownWorld, p_values

WORLD = ShownWorld(1, 32, log_snr=(7.0, -8.0))
NUM = 2000
BATCH, _ = WORLD.draw(NUM)
T = jnp.arange(NUM) % 32 + 1


def repeating(first_factor=1.0, shift=0.0):
    """The exact model at first; in the second call the noise that its own estimates leave."""
    exact = WORLD.model(diffusable=("x0",))

    def answer(z_t, t, roles):
        prediction = exact.denoise(z_t, t, roles)
        bar = jnp.sqrt(WORLD.schedule.alpha_bar)[t][:, None]
        drift = jnp.where(
            roles.carried("x0"), WORLD.process.weights.marginal["x0"][t], 0 * bar[:, 0]
        )[:, None]
        p, x0 = roles.shown("p", z_t), roles.shown("x0", z_t)
        is_x0 = roles.diffused("x0")[:, None]
        rest = z_t - bar * jnp.where(is_x0, x0, p) - jnp.where(is_x0, 0.0, drift * x0)
        noise = rest / jnp.sqrt(WORLD.schedule.noise_variance[t])[:, None]
        again = (roles.estimated("p") | roles.estimated("x0"))[:, None]
        value = jnp.where(again, noise + shift, first_factor * prediction.value)
        return dataclasses.replace(prediction, value=value)

    return dataclasses.replace(exact, denoise=answer, self_conditioned=("p", "x0"))


def states(functions, roles, **options):
    z_t = jax.random.normal(jax.random.key(3), (NUM, DIMS))
    return denoise(WORLD.diffusion(functions), T, z_t, roles, **options)


def roles_of(tasks):
    functions = repeating()
    roles = model.training_roles(functions, BATCH, key=jax.random.key(0), tasks=tasks)
    return model.encode(functions, BATCH, roles)[1]


@pytest.mark.parametrize("task", ["p, x0", "p | x0", "p", "x0", "x0 | p"])
def test_the_second_call_sees_the_estimate_of_the_first(task):
    roles = roles_of({task: 1.0})
    first = states(WORLD.model(diffusable=("x0",)), roles)
    second = states(repeating(), roles)
    np.testing.assert_allclose(second.clean.z_0, first.clean.z_0, rtol=1e-3, atol=1e-3)
    # Another first answer makes another second one.
    other = states(repeating(0.5), roles)
    assert np.abs(other.clean.z_0 - first.clean.z_0).mean() > 0.01


def test_what_is_asked_for_and_nothing_else_is_estimated():
    seen = {}

    def watched(z_t, t, roles):
        for name in WORLD.everyone:
            seen.setdefault(name, []).append(roles.estimated(name))
        return WORLD.model().denoise(z_t, t, roles)

    functions = dataclasses.replace(repeating(), denoise=watched)
    with jax.disable_jit():
        states(functions, roles_of({"p | x0": 1.0}))
    first, second = ({name: x[k].all() for name, x in seen.items()} for k in range(2))
    assert not any(first.values())
    assert second == {"p": True, "x0": False}


@pytest.mark.long
def test_samples_and_densities_are_those_of_the_exact_network():
    """A density is right only if its derivative goes through both calls."""
    diffusion, exact = WORLD.diffusion(repeating()), WORLD.diffusion()
    for known in ((), ("x0",)):
        given = {name: BATCH[name] for name in known}
        method = sampling.Method(sampling.DPMSolverPP(), read="draw", order=("p", "x0"))
        call = jax.jit(
            lambda key, given=given, method=method: sampling.sample(
                key, diffusion, (NUM, DIMS), given, method
            )
        )
        samples = call(jax.random.key(0))
        assert min(p_values(WORLD, BATCH, samples, known)) > 0.001 / 5
    part = {name: x[:200] for name, x in BATCH.items()}
    key = jax.random.key(1)
    for of in (objective.flow_bound, lambda *args: objective.bound(*args).total):
        ours, theirs = (jax.jit(lambda d=d, of=of: of(key, d, part))() for d in (diffusion, exact))
        np.testing.assert_allclose(ours, theirs, rtol=2e-3, atol=2e-2)


@pytest.mark.long
def test_training_sees_estimates_in_a_share_of_the_calls_and_has_no_gradient_of_them():
    def loss(first_factor, share, key=0):
        options = objective.LossOptions(tasks={"p | x0": 1.0}, self_conditioning=share)
        diffusion = WORLD.diffusion(repeating(first_factor, shift=1.0))
        return objective.simple_loss(jax.random.key(key), diffusion, BATCH, options=options)[0]

    plain, _ = objective.simple_loss(
        jax.random.key(0),
        WORLD.diffusion(WORLD.model(diffusable=("x0",))),
        BATCH,
        options=objective.LossOptions(tasks={"p | x0": 1.0}),
    )
    np.testing.assert_allclose(loss(1.0, 0.0), plain, rtol=1e-6)
    never, always = (jax.value_and_grad(loss)(0.5, share) for share in (0.0, 1.0))
    assert never[0] != always[0]
    assert never[1] != 0
    assert always[1] == 0
    calls = [jax.jit(lambda key, share=share: loss(0.5, share, key)) for share in (0.0, 0.5, 1.0)]
    losses = np.array([[call(key) for call in calls] for key in range(30)])
    first, twice = (np.isclose(losses[:, 1], losses[:, k], rtol=1e-5) for k in (0, 2))
    assert (first ^ twice).all()
    assert 5 < twice.sum() < 25


def test_a_network_is_told_what_is_its_own_estimate():
    config = digits.get_config()

    def shapes():
        params = jax.eval_shape(experiment.build(config).init, jax.random.key(0))
        leaves = jax.tree_util.tree_leaves_with_path(params)
        return {jax.tree_util.keystr(path): leaf.shape for path, leaf in leaves}

    without = shapes()
    config.self_conditioned = ("image", "label")
    told = {name for name, shape in shapes().items() if shape != without[name]}
    assert told == {"['backbone']['shown_summary']['kernel']"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"self_conditioned": ("imag",)}, "`config.self_conditioned`: got 'imag'.*mean 'image'"),
        ({"loss.tasks": {}, "loss.kind": "bound", "self_conditioned": ("image",)}, "simple loss"),
    ],
)
def test_what_cannot_be_conditioned_on(changes, words):
    config = digits.get_config()
    config.update_from_flattened_dict(changes)
    with pytest.raises(ValueError, match=words):
        experiment.build(config)
