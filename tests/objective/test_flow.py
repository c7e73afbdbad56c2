"""The flow's density against the exact one of a Gaussian world, its order, and its bound."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from mmdiffusion_jax import objective, process
from mmdiffusion_jax.model import denoise as denoise_by_model
from tests.linear_world import LinearWorld


def first_states(world, count):
    """Draws of z_1 and their exact log density."""
    observe = world.observe[1]
    noise = float(world.schedule.noise_variance[1]) * np.eye(2)
    covariance = observe @ world.covariance @ observe.T + noise
    law = stats.multivariate_normal(observe @ world.mean, covariance)
    z = law.rvs(count, random_state=0)
    return jnp.float32(z), law.logpdf(z)


def density(world, z, num_probes=None, model=None):
    model = model or world.model()
    return jax.jit(
        lambda z: objective.flow_log_density(
            jax.random.key(0), world.diffusion(model), z, num_probes=num_probes
        )
    )(z)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_density_is_exact_and_of_second_order(count):
    densities = []
    for num_steps in (50, 100, 200):
        world = LinearWorld(count, num_steps)
        z, exact = first_states(world, 100)
        densities.append(np.asarray(density(world, z)))
    # What is left with fine steps is p(z_T) against N(0, I), the same however many there are.
    assert np.sqrt(np.mean((densities[2] - exact) ** 2)) < 0.03
    assert abs(np.mean(densities[2] - exact)) < 0.005
    # An error of h² falls by 4 with every halving, and so does the change it makes.
    changes = [np.sqrt(np.mean((b - a) ** 2)) for a, b in itertools.pairwise(densities)]
    assert 3.6 < changes[0] / changes[1] < 4.4


def test_without_the_primary_the_bound_is_of_what_is_left():
    world = LinearWorld(1, 100)
    batch, _ = world.draw(2000)
    exact = -stats.multivariate_normal(world.mean[2:], world.covariance[2:, 2:]).logpdf(batch["x0"])
    got = jax.jit(
        lambda key: objective.flow_bound(
            key, world.diffusion(), batch, {"p": jnp.zeros(2000)}, num_probes=None
        )
    )(jax.random.key(0))
    assert abs(np.mean(np.asarray(got) - exact)) < 0.005


def test_probes_estimate_the_exact_trace():
    world = LinearWorld(1, 50)
    z, _ = first_states(world, 2000)
    exact = np.asarray(density(world, z))
    spread = []
    for num_probes in (1, 8):
        error = np.asarray(density(world, z, num_probes)) - exact
        assert abs(error.mean()) < 4.5 * error.std() / 2000**0.5
        spread.append(error.std())
    assert 2 < spread[0] / spread[1] < 4  # sqrt(8) = 2.8


@pytest.mark.parametrize("target", ["z_0", "v"])
def test_every_target_flows_alike(target):
    world = LinearWorld(1, 50)
    z, _ = first_states(world, 5)
    plain = world.model()

    def denoise(z_t, t, roles):
        state = denoise_by_model(world.diffusion(plain), t, z_t, roles)
        pivot = process.Pivot(state.clean.z_0, state.noise)
        value = process.from_pivot(world.schedule, t, pivot, target)
        return dataclasses.replace(state.prediction, value=value)

    other = dataclasses.replace(plain, denoise=denoise, target=target)
    got = density(world, z, model=other)
    np.testing.assert_allclose(got, density(world, z), atol=0.002)


def flow_and_exact(count, num_steps, size=1000):
    world = LinearWorld(count, num_steps)
    batch, exact = world.draw(size)
    arguments = world.diffusion(), batch
    flow = jax.jit(lambda key: objective.flow_bound(key, *arguments, num_probes=1))
    steps = jax.jit(lambda key: objective.bound(key, *arguments).total)
    return flow(jax.random.key(0)), steps(jax.random.key(1)), exact


def test_without_others_the_flow_bound_is_the_exact_value_of_each_example():
    """p(z_1) p(x | z_1) / q(z_1 | x) is p(x) for every z_1 when all three are exact."""
    flow, steps, exact = flow_and_exact(0, 200)
    np.testing.assert_allclose(flow, exact, atol=0.08)
    assert abs(float(flow.mean()) - exact.mean()) < 0.01
    assert float(steps.mean()) > float(flow.mean())
    assert float(steps.mean()) < float(flow.mean()) + 0.3


@pytest.mark.parametrize("count", [1, 2])
def test_with_others_it_stays_above_the_exact_value_and_below_the_steps(count):
    """The steps also pay for a drift that the model must guess; the flow has none to guess."""
    flow, steps, exact = flow_and_exact(count, 100)
    gap = np.asarray(flow) - exact
    assert gap.mean() > -4 * gap.std() / len(exact) ** 0.5
    assert float(flow.mean()) < float(steps.mean())


def test_what_is_absent_is_not_in_the_density():
    """Without the secondary, the model of the primary alone gives the same bound."""
    world, alone = LinearWorld(1, 20), LinearWorld(0, 20)
    batch, _ = world.draw(4)
    plain = alone.model()
    whole = world.model()

    def denoise(z_t, t, roles):
        # No state carries x0, so that the optimal prediction is that of the smaller world.
        prediction = plain.denoise(z_t, t, roles)
        return dataclasses.replace(
            prediction, heads={**whole.denoise(z_t, t, roles).heads, **prediction.heads}
        )

    seeing = dataclasses.replace(whole, denoise=denoise, sees_roles=True)

    def flow_of(world, model, batch, presence):
        return jax.jit(
            lambda key: objective.flow_bound(
                key, world.diffusion(model), batch, presence, num_probes=None
            )
        )(jax.random.key(0))

    got = flow_of(world, seeing, batch, {"x0": jnp.zeros(4)})
    want = flow_of(alone, plain, {"p": batch["p"]}, None)
    np.testing.assert_allclose(got, want, atol=1e-3)


@pytest.mark.parametrize("num_probes", [0, -1])
def test_bad_number_of_probes(num_probes):
    world = LinearWorld(1, 5)
    batch, _ = world.draw(3)
    with pytest.raises(ValueError, match=f"got {num_probes}, expected 1 or more"):
        objective.flow_bound(
            jax.random.key(0), world.diffusion(), batch,
            num_probes=num_probes,
        )  # fmt: skip
