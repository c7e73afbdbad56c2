"""The tables of a process at the steps of a grid, in float64 on the host."""

import dataclasses

import jax
import numpy as np
from jax.typing import ArrayLike

from mmdiffusion_jax import errors
from mmdiffusion_jax.model import CleanState
from mmdiffusion_jax.process import VARIANCES, Process
from mmdiffusion_jax.process.checks import expect, expect_name
from mmdiffusion_jax.sampling.grids import check_grid


@dataclasses.dataclass(frozen=True)
class Plan:
    """A grid t_0 > t_1 > … and the process along it.

    Attributes:
        times: (n,) int32.
        noise: σ = sqrt(1 − ᾱ), (n,).
        scale: the factors of the signal's parts, sqrt(ᾱ) and w̄^(i), (n,) each.
        log_snr: λ = log(sqrt(ᾱ) / σ), (n,); half the log of the signal-to-noise ratio.
        all_scale: `scale` at every t = 1 … T.
        all_noise: `noise` at every t = 1 … T.
        variance: of the reverse process, a name of `process.VARIANCES`.

    Example:
        >>> from mmdiffusion_jax import process, sampling
        >>> forward = process.Process(process.cosine_schedule(10))
        >>> along = sampling.plan(forward, [10, 5, 1])
        >>> along.times.tolist(), along.gaps.shape
        ([10, 5, 1], (2,))
    """

    times: np.ndarray
    noise: np.ndarray
    scale: CleanState
    log_snr: np.ndarray
    all_scale: CleanState
    all_noise: np.ndarray
    variance: str = "posterior"

    @property
    def gaps(self) -> np.ndarray:
        """h_k = λ at the end of step k − λ at its start, (n − 1,), above 0."""
        return np.diff(self.log_snr)

    def posterior_variance(self) -> np.ndarray:
        """β̃ of each step, σ_s² (1 − e^{−2h}), (n − 1,); the variance of q(z_s | z_t, z_0, X)."""
        return self.noise[1:] ** 2 * -np.expm1(-2 * self.gaps)

    def move(self, variance: ArrayLike = 0.0) -> tuple[np.ndarray, CleanState]:
        """One step with constant parts of the signal, and noise of this variance added after it.

        z_s = κ z_t + Σ_c (c_s − κ c_t) C + noise,   κ = sqrt(σ_s² − variance) / σ_t

        for the parts C = z_0, E_1, E_2, … with factors c = sqrt(ᾱ), w̄^(1), w̄^(2), …: so z_s has
        the marginal's mean, and the marginal's variance too, if z_t has. In y_t = z_t − Σ w̄_t E it
        is DDIM (Song et al. 2021, eq. 12).

        Args:
            variance: (n − 1,) or a scalar, at most the posterior's.

        Returns:
            κ and the factors of the parts, (n − 1,) each.
        """
        kept = np.sqrt(self.noise[1:] ** 2 - variance) / self.noise[:-1]
        return kept, jax.tree.map(lambda c: c[1:] - kept * c[:-1], self.scale)

    def moments(self, power: int) -> CleanState:
        """σ_s ∫ (λ − λ_t)^power d(c/σ) over each step, by the midpoint rule on the steps 1 … T.

        An estimate that grows as (λ − λ_t)^power adds that much to z_s. For z_0, whose c/σ = e^λ,
        the closed form is used.

        Args:
            power: 1 or 2.

        Returns:
            (n − 1,) for each part.
        """
        h = self.gaps
        closed = np.expm1(-h) + h if power == 1 else -2 * np.expm1(-h) - 2 * h + h**2
        signal = self.scale.z_0[1:] * closed
        fine = np.log(self.all_scale.z_0 / self.all_noise)
        middle = (fine[1:] + fine[:-1]) / 2

        def integrate(c: np.ndarray) -> np.ndarray:
            rises = -np.diff(c / self.all_noise)
            integral = np.empty(len(h))
            for k, (start, end) in enumerate(zip(self.times[:-1], self.times[1:], strict=True)):
                part = slice(end - 1, start - 1)
                weight = (middle[part] - self.log_snr[k]) ** power
                integral[k] = self.noise[k + 1] * np.sum(weight * rises[part])
            return integral

        encodings = self.all_scale.encodings
        return CleanState(signal, {name: integrate(c) for name, c in encodings.items()})


def plan(process: Process, times: ArrayLike, variance: str = "posterior") -> Plan:
    """The process along a grid of times, with a variance of the reverse process.

    Raises:
        ValueError: a bad grid, no process, or tables that are traced.

    Example:
        >>> from mmdiffusion_jax import process
        >>> grid = plan(process.Process(process.cosine_schedule(8)), [8, 4, 1])
        >>> bool((grid.gaps > 0).all())
        True
    """
    expect("process", process, Process, "make it by process.Process(schedule, weights)")
    expect_name("variance", variance, VARIANCES)
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(process)):
        raise errors.invalid(
            "process", "traced values", "tables known outside jit", "close over it"
        )
    schedule = process.schedule
    grid = check_grid(schedule, times)
    kept, left = (
        np.asarray(table, np.float64)[1:] for table in (schedule.alpha_bar, schedule.noise_variance)
    )
    noise = np.sqrt(left)
    marginal = process.weights.marginal
    scale = CleanState(
        np.sqrt(kept), {name: np.asarray(marginal[name], np.float64)[1:] for name in process.names}
    )
    at = grid - 1
    return Plan(
        times=grid,
        noise=noise[at],
        scale=jax.tree.map(lambda c: c[at], scale),
        log_snr=0.5 * np.log(kept[at] / left[at]),
        all_scale=scale,
        all_noise=noise,
        variance=variance,
    )
