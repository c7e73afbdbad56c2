"""Each grid is what it says, against its formula."""

import functools

import jax
import numpy as np
import pytest

from mmdiffusion_jax import process, sampling

SCHEDULES = {
    "linear": process.linear_schedule(60),
    "cosine": process.cosine_schedule(60),
    "sigmoid": process.sigmoid_schedule(60),
}
LONG = process.linear_schedule(1000)


def sigmas(schedule):
    """sqrt((1 − ᾱ_t) / ᾱ_t) at t = 1 … T."""
    return np.asarray(schedule.snr, np.float64)[1:] ** -0.5


def to_the_end(build):
    """Starts at T whatever the noise there."""
    return functools.partial(build, sigma_max=np.inf)


BUILDS = {
    **sampling.GRIDS,
    "all of log_snr": to_the_end(sampling.log_snr_grid),
    "all of karras": to_the_end(sampling.karras_grid),
    "all of karras 1": to_the_end(functools.partial(sampling.karras_grid, rho=1.0)),
}


@pytest.mark.parametrize("name", BUILDS)
@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_every_number_of_steps_goes_strictly_from_noise_to_data(name, schedule):
    """From T, or from σ = 80 where the grid is even in noise, if so many states fit below.

    One state alone is at T.
    """
    first = (sigmas(schedule) <= 80).sum() if name in ("log_snr", "karras") else 60
    assert first < 60 or name not in ("log_snr", "karras")
    for num_steps in range(1, 61):
        grid = BUILDS[name](schedule, num_steps)
        assert grid.shape == (num_steps,)
        assert grid.dtype == np.int32
        assert grid[0] == (60 if num_steps == 1 else max(first, num_steps))
        assert num_steps == 1 or grid[-1] == 1
        assert (np.diff(grid) < 0).all()


@pytest.mark.parametrize("name", ["uniform", "quadratic"])
def test_evenly_spaced_in_a_function_of_t(name):
    forth = {"uniform": np.asarray, "quadratic": np.sqrt}[name]
    grid = sampling.GRIDS[name](LONG, 20)
    even = np.linspace(forth(1000), forth(1), 20)
    assert (forth(grid - 0.5) <= even).all()
    assert (even <= forth(grid + 0.5)).all()


@pytest.mark.parametrize("num_steps", [2, 5, 12])
@pytest.mark.parametrize("sigma_max", [80.0, 3.0, np.inf])
@pytest.mark.parametrize(
    ("build", "forth"),
    [
        (sampling.log_snr_grid, np.log),
        (sampling.karras_grid, lambda sigma: sigma ** (1 / 7)),
        (functools.partial(sampling.karras_grid, rho=2.0), np.sqrt),
        (functools.partial(sampling.karras_grid, rho=1.0), lambda sigma: sigma),
    ],
    ids=["log_snr", "karras", "karras 2", "karras 1"],
)
def test_evenly_spaced_in_a_function_of_the_noise(build, forth, sigma_max, num_steps):
    """To within a step: the even value lies between those of the neighbours of t."""
    grid = build(LONG, num_steps, sigma_max=sigma_max)
    table = forth(sigmas(LONG))
    start = forth(sigmas(LONG)[sigmas(LONG) <= sigma_max].max())
    even = np.linspace(start, table[0], num_steps)
    below = table[np.maximum(grid - 2, 0)]
    above = table[np.minimum(grid, 999)]
    slack = 1e-6 * np.abs(table).max()  # the tables are float32
    assert (below - slack <= even).all()
    assert (even <= above + slack).all()


@pytest.mark.parametrize("build", [sampling.log_snr_grid, sampling.karras_grid])
@pytest.mark.parametrize("sigma_max", [1e-6, np.nan])
def test_a_bad_sigma_max(build, sigma_max):
    with pytest.raises(ValueError, match=f"`sigma_max`: got {sigma_max}"):
        build(LONG, 5, sigma_max=sigma_max)


def test_one_s_own_grid_is_kept():
    assert sampling.check_grid(LONG, [900, 30, 7]).tolist() == [900, 30, 7]


@pytest.mark.parametrize("name", sampling.GRIDS)
@pytest.mark.parametrize("num_steps", [0, -1, 1001, 2.0, True])
def test_a_bad_number_of_steps(name, num_steps):
    with pytest.raises(ValueError, match=f"`num_steps`: got {num_steps}.*in 1 … 1000"):
        sampling.GRIDS[name](LONG, num_steps)


@pytest.mark.parametrize("rho", [0.0, -7.0])
def test_a_bad_rho(rho):
    with pytest.raises(ValueError, match=f"`rho`: got {rho}"):
        sampling.karras_grid(LONG, 5, rho)


@pytest.mark.parametrize(
    ("times", "words"),
    [
        ([], r"`times`: got shape \(0,\)"),
        (5, r"`times`: got 5, .* for 5 of them pass sampling.uniform_grid"),
        ([[5, 1]], r"`times`: got shape \(1, 2\)"),
        ([5.0, 1.0], "float64, expected one axis of integers"),
        ([5, 0], "values from 0 to 5, expected values in 1 … 1000"),
        ([1001, 1], "values from 1 to 1001"),
        ([5, 7, 1], "`times`: got 5 and then 7, expected strictly decreasing"),
        ([9, 5, 5], "`times`: got 5 and then 5"),
    ],
)
def test_a_bad_grid(times, words):
    with pytest.raises(ValueError, match=words):
        sampling.check_grid(LONG, times)


@pytest.mark.parametrize("name", ["log_snr", "karras"])
def test_a_traced_schedule(name):
    with pytest.raises(ValueError, match=r"`schedule`: got traced values.*; close over them"):
        jax.jit(lambda schedule: sampling.GRIDS[name](schedule, 5))(LONG)


def test_a_traced_grid():
    with pytest.raises(ValueError, match="`times`: got traced values"):
        jax.jit(lambda times: sampling.check_grid(LONG, times))(np.array([2, 1]))
