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

    That is where the weights of a modality that is generated together with the primary leave much
    of it in the first state, ½ w̄_t² ‖E‖² nats for an encoding of unit RMS, ‖E‖² = num_dims: more
    than 1 nat, and if they leave less than that at T and the grid begins below, as those that are
    even in noise do, more than twice what the rule "bump" leaves at σ = 80; and where the grid
    begins so far below T that the signal-to-noise ratio there is above 0.01, and above twice the
    one at σ = 80, where grids that are even in noise begin (or at T, if σ is less there).

    Args:
        plan: the process along the grid, on the host.
        together: the modalities that states carry and that nobody gives.
        num_dims: of the latent.
    """
    snr = (plan.all_scale.z_0 / plan.all_noise) ** 2
    first, last = int(plan.times[0]), len(snr)
    usual = int(np.count_nonzero(snr >= NOISIEST**-2)) or last
    most = _MOST_NATS
    if first < last:
        # The marginal weight of "bump" is 2 sqrt(ᾱ_t (1 − ᾱ_t)), so its square is about 4 SNR.
        most = max(most, 2 * 0.5 * num_dims * 4 * snr[usual - 1])
    for name in sorted(together):
        nats = 0.5 * num_dims * plan.all_scale.encodings[name] ** 2
        here, end = nats[first - 1], nats[-1]
        if here > (_MOST_NATS if end > _MOST_NATS else most):
            begins = f"at t = {first} of {last}, where `times` begin"
            where = f"{here:.1f} nats in the state {begins}"
            if end > _MOST_NATS:
                where = f"{end:.1f} nats in the last state (L0)"
                where += f", and {here:.1f} {begins}" if first < last else ""
                mend = "Let its marginal weight fall to 0 at t = T (rule 'bump' or 'decay')."
            else:
                later = first + np.flatnonzero(nats[first:] <= _MOST_NATS)
                mend = f"Begin at t = {later[0] + 1}."
            warnings.warn(
                f"The weights of {name!r} leave about {where}: generating it from pure noise will "
                f"be poor. {mend}",
                stacklevel=_CALLER,
            )
    if snr[first - 1] > max(_LEAST_SNR, 2 * snr[usual - 1]):
        warnings.warn(
            f"`times` begin at t = {first} of {last}, where the signal-to-noise ratio is "
            f"{snr[first - 1]:.2g}, but states begin in pure noise: samples will be poor. Begin at "
            f"t = {usual} or above, or begin from given values (`begin`).",
            stacklevel=_CALLER,
        )
