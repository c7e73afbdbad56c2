"""Averages of the parameters over a share of the run, whatever its length."""

import math

import jax
import numpy as np

WIDEST = 0.28
"""The relative width of a mean over the whole run is 0.289."""


def power_decay(width: float, count: jax.Array) -> jax.Array:
    """The decay with which an average has a profile of a given relative width.

    After n steps the average is Σₖ wₖ θₖ with weights wₖ ∝ kᵞ for large n. The standard deviation
    of k under these weights is `width` · n. The decay of step n is (1 − 1/n)^(γ+1), so that nothing
    is left of the initialisation, and γ is the positive root of width² (γ+2)² (γ+3) = γ + 1.

    Source: Karras et al. 2024, "Analyzing and Improving the Training Dynamics of Diffusion Models",
    section 3.

    Args:
        width: in (0, `WIDEST`]; a width of 0.1 averages over the last tenth or so.
        count: steps that were taken before, a scalar.

    Example:
        >>> import jax.numpy as jnp
        >>> print(power_decay(0.1, jnp.array([0.0, 9.0, 99.0])))
        [0.         0.43332464 0.9233273 ]
    """
    inverse = width**-2
    roots = np.roots([1, 7, 16 - inverse, 12 - inverse])
    exponent = max(root.real for root in roots if math.isclose(root.imag, 0, abs_tol=1e-6))
    return (1 - 1 / (count + 1)) ** (exponent + 1)
