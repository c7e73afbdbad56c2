"""Warnings of samples that begin in pure noise, where the process does not end in it."""

import warnings
from collections.abc import Collection

import numpy as np

from mmdiffusion_jax.sampling.grids import NOISIEST
from mmdiffusion_jax.sampling.plan import Plan

_MOST_NATS = 1.0
_LEAST_SNR = 0.01
# From the warning up to the caller of `sample`: so Python says it once for each place and text.
_CALLER = 5


def warn_of_the_start(plan: Plan, together: Collection[str], num_dims: int) -> None:
    """Warns where noise N(0, I) at the first t of a grid is not what the process has there.

    That is where the weights of a modality that is generated together with the primary leave more
    than 1 nat of it in z_T, ½ w̄_T² ‖E‖² for an encoding of unit RMS, ‖E‖² = num_dims; and where
    the grid begins so far below T that the signal-to-noise ratio there is above 0.01, and above
    twice the one at σ = 80, where grids that are even in noise begin (or at T, if σ is less there).

    Args:
        plan: the process along the grid, on the host.
        together: the modalities that states carry and that nobody gives.
        num_dims: of the latent.
    """
    for name in sorted(together):
        nats = 0.5 * num_dims * float(plan.all_scale.encodings[name][-1]) ** 2
        if nats > _MOST_NATS:
            warnings.warn(
                f"The weights of {name!r} leave about {nats:.1f} nats in the last state (L0): "
                "generating it from pure noise will be poor. Let its marginal weight fall to 0 at "
                "t = T (rule 'bump' or 'decay').",
                stacklevel=_CALLER,
            )
    snr = (plan.all_scale.z_0 / plan.all_noise) ** 2
    first = int(plan.times[0])
    usual = int(np.count_nonzero(snr >= NOISIEST**-2)) or len(snr)
    if snr[first - 1] > max(_LEAST_SNR, 2 * snr[usual - 1]):
        warnings.warn(
            f"`times` begin at t = {first} of {len(snr)}, where the signal-to-noise ratio is "
            f"{snr[first - 1]:.2g}, but states begin in pure noise: samples will be poor. Begin at "
            f"t = {usual} or above, or begin from given values (`begin`).",
            stacklevel=_CALLER,
        )
