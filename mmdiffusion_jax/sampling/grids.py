"""Time grids: which of the steps T … 1 a sampler visits, from noise to data.

A cosine schedule ends far beyond the noise that drowns the data: its last steps leap over more of
the log-SNR than all others together, and nothing happens there. Grids that are even in noise start
where σ = sqrt((1 − ᾱ_t)/ᾱ_t) is at most 80 (the σ_max of Karras et al. 2022, table 1), so as not to
spend their states there; what is left of the signal at their start is 1/80 of its size. A grid of
one state is T alone, where nothing is left: one call then answers with a mean.
"""

from collections.abc import Callable, Mapping

import numpy as np
from jax.typing import ArrayLike

from mmdiffusion_jax import errors
from mmdiffusion_jax.process import Schedule
from mmdiffusion_jax.process.checks import as_table, described, expect, expect_number
from mmdiffusion_jax.ranges import is_whole

NOISIEST = 80.0
"""The greatest σ at which the grids that are even in noise start."""


def uniform_grid(schedule: Schedule, num_steps: int) -> np.ndarray:
    """Evenly spaced in t, both ends included.

    Args:
        schedule: the noise schedule, T steps.
        num_steps: how many states are visited, 1 … T; each costs one call of the network.

    Returns:
        (num_steps,) int32, strictly decreasing from T to 1.

    Raises:
        ValueError: `num_steps` out of range.

    Example:
        >>> from mmdiffusion_jax.process import cosine_schedule
        >>> uniform_grid(cosine_schedule(100), 4).tolist()
        [100, 67, 34, 1]
    """
    return _nearest(schedule, num_steps, lambda s: schedule.num_steps * (1 - s) + s)


def quadratic_grid(schedule: Schedule, num_steps: int) -> np.ndarray:
    """Evenly spaced in the root of t: denser near the data (Song et al. 2021, "DDIM", appendix D).

    Arguments, result and errors are those of `uniform_grid`.

    Example:
        >>> from mmdiffusion_jax.process import cosine_schedule
        >>> quadratic_grid(cosine_schedule(100), 4).tolist()
        [100, 49, 16, 1]
    """
    root = np.sqrt(expect("schedule", schedule, Schedule).num_steps)
    return _nearest(schedule, num_steps, lambda s: (root * (1 - s) + s) ** 2)


def log_snr_grid(schedule: Schedule, num_steps: int, sigma_max: float = NOISIEST) -> np.ndarray:
    """Evenly spaced in the log signal-to-noise ratio (Lu et al. 2022, "DPM-Solver").

    Args:
        schedule: the noise schedule, T steps.
        num_steps: how many states are visited, 1 … T.
        sigma_max: the greatest σ to start at; infinity starts at T.

    Returns:
        (num_steps,) int32, strictly decreasing to 1, or T alone; it starts above `sigma_max` only
        where so many states do not fit below.

    Raises:
        ValueError: `num_steps` out of range, no t with σ up to `sigma_max`, or a schedule that is
            traced.

    Example:
        >>> from mmdiffusion_jax.process import schedule_from_betas
        >>> log_snr_grid(schedule_from_betas([0.1, 0.1, 0.1, 0.9]), 3).tolist()
        [4, 3, 1]
    """
    return _through_noise(schedule, num_steps, sigma_max, np.log, np.exp)


def karras_grid(
    schedule: Schedule, num_steps: int, rho: float = 7.0, sigma_max: float = NOISIEST
) -> np.ndarray:
    """Evenly spaced in σ^(1/ρ), σ = sqrt((1 − ᾱ_t)/ᾱ_t) (Karras et al. 2022, eq. 5).

    With ρ = 1 it is even in σ, with a larger ρ denser near the data; ρ is above 0. The other
    arguments, result and errors are those of `log_snr_grid`.

    Example:
        >>> from mmdiffusion_jax.process import cosine_schedule
        >>> karras_grid(cosine_schedule(100), 4).tolist()
        [99, 94, 49, 1]
    """
    expect_number("rho", rho, "a number above 0", lambda x: 0 < x < np.inf, "7 is usual")
    return _through_noise(
        schedule, num_steps, sigma_max, lambda x: x ** (1 / rho), lambda x: x**rho
    )


GRIDS: Mapping[str, Callable[[Schedule, int], np.ndarray]] = {
    "uniform": uniform_grid,
    "quadratic": quadratic_grid,
    "log_snr": log_snr_grid,
    "karras": karras_grid,
}
"""The grids by their names in configs and commands."""


def check_grid(schedule: Schedule, times: ArrayLike) -> np.ndarray:
    """A grid as (num_steps,) int32, checked to be strictly decreasing integers in 1 … T.

    Raises:
        ValueError: an empty grid, values that are not integers in 1 … T, or that do not decrease.

    Example:
        >>> from mmdiffusion_jax.process import cosine_schedule
        >>> check_grid(cosine_schedule(10), [10, 5, 1]).tolist()
        [10, 5, 1]
    """
    expect("schedule", schedule, Schedule)
    grid = as_table("times", times, None)
    if np.issubdtype(grid.dtype, np.integer) and not grid.ndim:
        raise errors.invalid(
            "times",
            times,
            "the visited t's, from noise to data",
            f"for {times} of them pass sampling.uniform_grid(schedule, {times})",
        )
    if grid.ndim != 1 or not grid.size or not np.issubdtype(grid.dtype, np.integer):
        raise errors.invalid(
            "times",
            f"shape {grid.shape} and dtype {grid.dtype}",
            "one axis of integers, at least one",
            "use a grid of this module",
        )
    if grid.min() < 1 or grid.max() > schedule.num_steps:
        raise errors.invalid(
            "times",
            f"values from {grid.min()} to {grid.max()}",
            f"values in 1 … {schedule.num_steps}",
            "the state at t = 0 is estimated, not visited",
        )
    rises = np.flatnonzero(np.diff(grid) >= 0)
    if rises.size:
        place = int(rises[0])
        raise errors.invalid(
            "times",
            f"{grid[place]} and then {grid[place + 1]}",
            "strictly decreasing values, from noise to data",
            "sort it downward without repeats",
        )
    return grid.astype(np.int32)


def _nearest(
    schedule: Schedule, num_steps: int, curve: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """The whole numbers nearest to curve(0 … 1), pushed apart where two would be the same; or T."""
    total = expect("schedule", schedule, Schedule).num_steps
    if not is_whole(num_steps) or not 1 <= num_steps <= total:
        raise errors.invalid(
            "num_steps",
            described(num_steps),
            f"a whole number in 1 … {total}, the schedule's steps",
            "change it",
        )
    if num_steps == 1:
        return np.array([total], np.int32)
    grid = np.round(curve(np.linspace(0.0, 1.0, num_steps))).astype(np.int64)
    grid = np.minimum(grid, max(grid[0], num_steps) - np.arange(num_steps))
    grid = np.maximum(grid, np.arange(num_steps, 0, -1))
    for place in range(num_steps - 2, -1, -1):
        grid[place] = max(grid[place], grid[place + 1] + 1)
    return grid.astype(np.int32)


def _through_noise(
    schedule: Schedule,
    num_steps: int,
    sigma_max: float,
    forth: Callable[[np.ndarray], np.ndarray],
    back: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """Evenly spaced in forth(σ), from σ_max or what the schedule has below it."""
    expect("schedule", schedule, Schedule)
    expect_number("sigma_max", sigma_max, "a σ", lambda x: x == x)
    tables = schedule.alpha_bar, schedule.noise_variance
    kept, noise = (as_table("schedule", table)[1:] for table in tables)
    sigma = np.sqrt(noise / kept)
    steps = np.arange(1, schedule.num_steps + 1, dtype=np.float64)
    if not sigma_max >= sigma[0]:
        raise errors.invalid(
            "sigma_max", sigma_max, f"{sigma[0]:.3g}, the schedule's least, or more", "raise it"
        )
    start = sigma[sigma <= sigma_max][-1]

    def curve(s: np.ndarray) -> np.ndarray:
        wanted = back(forth(start) * (1 - s) + forth(sigma[0]) * s)
        return np.interp(np.log(wanted), np.log(sigma), steps)

    return _nearest(schedule, num_steps, curve)
