"""A warning where noise is not what the process has at the first state."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdiffusion_jax import objective, process, sampling
from mmdiffusion_jax.model import CleanState, Diffusion
from tests import plain_model

SHAPE = (2, 2)
SCHEDULE = process.cosine_schedule(100)
FEW = ("ddim", [100, 50, 1])


def diffusion(rule, schedule=SCHEDULE):
    weights = process.modality_weights(schedule, {"y": rule})
    return Diffusion(process.Process(schedule, weights), plain_model.shared())


def said(given=None, method=None, whole=None, compiled=False, **parts):
    """What a call of `sample` warns of."""

    def draw(key):
        return sampling.sample(key, whole, SHAPE, given, method, **parts)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        (jax.jit(draw) if compiled else draw)(jax.random.key(0))
    assert all(warning.filename == __file__ for warning in caught)
    return [str(warning.message) for warning in caught]


@pytest.mark.parametrize("compiled", [False, True])
def test_weights_that_leave_much_in_the_last_state(compiled):
    """As many nats as the bound's own L0 has more, of an encoding of unit RMS."""
    whole = diffusion(process.Constant(2.0))
    (text,) = said(None, sampling.Method(*FEW), whole, compiled)
    zero, one = jnp.zeros((1, 2)), jnp.ones((1, 2))
    with_y, without = (
        float(objective.prior_term(whole.process, CleanState(zero, {"y": code}))[0])
        for code in (one, zero)
    )
    assert f"The weights of 'y' leave about {with_y - without:.1f} nats" in text
    np.testing.assert_allclose(with_y - without, 4.0, rtol=1e-5)


@pytest.mark.parametrize(
    ("rule", "options"),
    [
        ("bump", {}),
        ("decay", {}),
        (process.Constant(2.0), {"given": {"y": jnp.ones(SHAPE)}}),
        (process.Constant(2.0), {"given": {"x": jnp.ones(SHAPE)}}),
        (process.Constant(2.0), {"method": sampling.Method(*FEW, unknown="absent")}),
    ],
)
def test_nothing_is_said_where_the_states_end_in_noise(rule, options):
    options = {"method": sampling.Method(*FEW), **options}
    assert said(whole=diffusion(rule), **options) == []


def test_it_is_said_once():
    whole = diffusion(process.Constant(2.0))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for seed in range(3):
            sampling.sample(jax.random.key(seed), whole, SHAPE, method=sampling.Method(*FEW))
    assert len(caught) == 1


def test_weights_that_leave_much_where_the_grid_begins():
    """They fall to 0 at T alone; the warning names the t from which nothing of them is left."""
    table = np.full(101, 2.0)
    table[[0, 99, 100]] = 0
    weights = process.modality_weights(SCHEDULE, {"y": table}, given="marginal")
    whole = Diffusion(process.Process(SCHEDULE, weights), plain_model.shared())
    (text,) = said(None, sampling.Method("ddim", [98, 50, 1]), whole)
    assert "The weights of 'y' leave about 4.0 nats in the state at t = 98 of 100" in text
    assert "where `times` begin" in text
    assert text.endswith("Begin at t = 99.")
    for first in (99, 100):
        assert said(None, sampling.Method("ddim", [first, 50, 1]), whole) == []


def test_weights_that_leave_as_much_at_the_end_have_no_better_beginning():
    whole = diffusion(process.Constant(2.0))
    (text,) = said(None, sampling.Method("ddim", [99, 50, 1]), whole)
    assert "4.0 nats in the last state (L0), and 4.0 at t = 99 of 100, where `times`" in text
    assert "fall to 0 at t = T" in text


@pytest.mark.parametrize("name", ["karras", "log_snr"])
def test_a_bump_in_many_dimensions_may_begin_where_the_grids_do(name):
    """They neglect 1/80 of the signal, and as much of what drives; twice of it is told."""
    shape, grid = (2, 64 * 64 * 3), sampling.GRIDS[name](SCHEDULE, 5)
    for scale, count in ((1.0, 0), (2.0, 1)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            sampling.sample(
                jax.random.key(0),
                diffusion(process.Bump(scale)),
                shape,
                method=sampling.Method("ddim", grid),
            )
        assert len(caught) == count


@pytest.mark.parametrize("times", [[50, 20, 1], [93, 1], [1]])
def test_a_grid_that_begins_where_much_is_left(times):
    whole, method = diffusion("bump"), sampling.Method("ddim", times)
    first, beginning = np.cos(np.pi / 2 * (np.array([times[0], 0]) / 100 + 0.008) / 1.008) ** 2
    (text,) = said(None, method, whole)
    words = f"`times` begin at t = {times[0]} of 100, where the signal-to-noise ratio is"
    assert f"{words} {first / (beginning - first):.2g}" in text
    # With what they are to begin from, or with heads alone, there is no such state.
    begun = {"begin": {"x": sampling.Noised(jnp.ones(SHAPE), times[0] / 100)}}
    assert said(None, method, whole, **begun) == []
    assert said({"x": jnp.ones(SHAPE)}, method, whole) == []


@pytest.mark.parametrize("name", sampling.GRIDS)
@pytest.mark.parametrize("num_steps", [4, 8, 100])
def test_the_grids_are_taken_as_they_are(name, num_steps):
    """Also where a schedule is so coarse that little noise is at the last t with σ ≤ 80."""
    schedule = process.cosine_schedule(num_steps)
    grid = sampling.GRIDS[name](schedule, 4)
    assert said(None, sampling.Method("ddim", grid), diffusion("bump", schedule)) == []


def test_a_schedule_that_ends_with_a_signal_begins_there_or_near():
    """The ratio is 1.5 at T and a third more at T − 2; a grid from far below is told of."""
    whole = diffusion("bump", process.schedule_from_betas(np.full(10, 0.05)))
    given = {"y": jnp.ones(SHAPE)}
    for first, count in ((10, 0), (8, 0), (3, 1)):
        assert len(said(given, sampling.Method("ddim", [first, 1]), whole)) == count
