"""The states on the way are those that the steppers visit, whichever of them are kept."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdiffusion_jax import sampling
from mmdiffusion_jax.model import Diffusion
from tests import plain_model
from tests.linear_world import LinearWorld
from tests.stepping import StepRunner

WORLD = LinearWorld(1, 12)
TIMES = np.array([12, 9, 5, 2, 1])
KEY = jax.random.key(0)


def trajectory(num_states, given=None, **options):
    method = sampling.Method(times=TIMES, **options)
    return sampling.sample_trajectory(KEY, WORLD.diffusion(), (3, 2), given, method, num_states)


@pytest.mark.parametrize("stepper", ["dpm_solver_pp", "heun"])
def test_every_state_is_that_of_single_steps(stepper):
    values, way = trajectory(5, stepper=stepper)
    runner = StepRunner(WORLD, sampling.SAMPLERS[stepper]())
    by_hand = runner.states(TIMES, way.states[0], np.zeros((4, 3, 2), np.float32))
    assert way.times.tolist() == TIMES.tolist()
    np.testing.assert_allclose(way.states, by_hand, rtol=1e-4, atol=1e-5)
    for t, z_t, clean in zip(TIMES, way.states, way.clean, strict=True):
        np.testing.assert_allclose(runner.denoise(t, z_t).clean.z_0, clean, rtol=1e-4, atol=1e-5)
    # The primary of this world is read as it is.
    np.testing.assert_array_equal(way.values["p"], way.clean)
    for name in ("p", "x0"):
        np.testing.assert_array_equal(way.values[name][-1], values[name])


@pytest.mark.parametrize(("num_states", "places"), [(1, [4]), (2, [0, 4]), (3, [0, 2, 4])])
def test_fewer_states_are_some_of_all(num_states, places):
    _, every = trajectory(5, stepper="ddim")
    _, some = trajectory(num_states, stepper="ddim")
    assert some.times.tolist() == TIMES[places].tolist()
    np.testing.assert_allclose(some.states, every.states[np.array(places)], rtol=1e-5, atol=1e-6)


def test_the_samples_are_those_of_sample():
    options = {"stepper": "dpm_solver_pp_2m_sde", "read": "draw", "corrections": 1}
    request = KEY, Diffusion(plain_model.PROCESS, plain_model.shared()), (3, 2)
    with_way, _ = sampling.sample_trajectory(
        *request, num_states=2, method=sampling.Method(**options)
    )
    without = sampling.sample(*request, method=sampling.Method(**options))
    for name, x in without.items():
        np.testing.assert_allclose(with_way[name], x, rtol=1e-4, atol=1e-5)


def test_only_the_kept_states_are_held():
    """The loop's buffers, whatever the number of steps, are those of the states that are asked."""

    def largest(num_states):
        traced = jax.make_jaxpr(
            lambda: sampling.sample_trajectory(
                KEY,
                Diffusion(plain_model.PROCESS, plain_model.shared()),
                (3, 2),
                num_states=num_states,
            )[1]
        )()
        return max(
            var.aval.size
            for equation in traced.jaxpr.eqns
            if equation.primitive.name == "scan"
            for var in equation.outvars
        )

    assert largest(2) == 2 * 3 * 2
    assert largest(5) == 5 * 3 * 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_states": 6}, "`num_states`: got 6, expected 1 … 5"),
        ({"num_states": 0}, "`num_states`: got 0, expected 1 or more"),
        ({"order": ["x0"]}, r"`order`: got \['x0'\], expected an order with the primary 'p'"),
        ({"given": {"p": jnp.zeros((3, 2))}}, "`given`: got the primary 'p', expected other"),
    ],
)
def test_bad_requests(change, words):
    with pytest.raises(ValueError, match=words):
        trajectory(**{"num_states": 2, **change})
