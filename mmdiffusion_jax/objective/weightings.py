"""Weightings of the noise's error by the signal-to-noise ratio."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from mmdiffusion_jax.process.checks import as_array, expect_number

Weighting = Callable[[jax.Array], jax.Array]


def no_weighting(snr: jax.Array) -> jax.Array:
    """Weight 1 at every noise level: the plain mean squared error of the noise (Ho et al. 2020).

    Example:
        >>> import jax.numpy as jnp
        >>> no_weighting(jnp.array([1.0, 0.25])).tolist()
        [1.0, 1.0]
    """
    return jnp.ones_like(as_array("snr", snr))


def min_snr_weighting(gamma: float = 5.0) -> Weighting:
    """min(SNR, γ) / SNR, as a weight of the noise error (Hang et al. 2023).

    Raises:
        ValueError: when γ is not above 0.

    Example:
        >>> import jax.numpy as jnp
        >>> min_snr_weighting(5.0)(jnp.array([1.0, 10.0])).tolist()
        [1.0, 0.5]
    """
    expect_number("gamma", gamma, "a number above 0", lambda x: 0 < x < math.inf, "raise it")

    def weight(snr: jax.Array) -> jax.Array:
        snr = as_array("snr", snr)
        return jnp.minimum(snr, gamma) / snr

    return weight


def p2_weighting(gamma: float = 1.0, k: float = 1.0) -> Weighting:
    """1 / (k + SNR)^γ, as a weight of the noise error (Choi et al. 2022).

    γ = 0 is no weighting; k keeps the weight bounded at high noise.

    Raises:
        ValueError: when γ is negative or k is not above 0.

    Example:
        >>> import jax.numpy as jnp
        >>> p2_weighting()(jnp.array([1.0, 3.0])).tolist()
        [0.5, 0.25]
    """
    expected = "γ of at least 0 and k above 0"
    expect_number("gamma", gamma, expected, lambda x: 0 <= x < math.inf, "raise it")
    expect_number("k", k, expected, lambda x: 0 < x < math.inf, "raise it")
    return lambda snr: (k + as_array("snr", snr)) ** -gamma


def v_weighting() -> Weighting:
    """(1 + SNR) / SNR, as a weight of the noise error: the mean squared error of v.

    v = sqrt(ᾱ) ε − sqrt(1 − ᾱ) z_0 (Salimans & Ho 2022). The error of ε is SNR times that of ẑ_0,
    so that at high noise, where conditions decide everything, it weighs ẑ_0 by nothing; the error
    of v is 1 + SNR times that of ẑ_0.

    It is for networks that predict v or z_0. Of one that predicts the noise itself it weighs the
    error near t = T, where the SNR is almost 0, by a factor of thousands and more.

    Example:
        >>> import jax.numpy as jnp
        >>> v_weighting()(jnp.array([1.0, 0.25])).tolist()
        [2.0, 5.0]
    """
    return lambda snr: 1 + 1 / as_array("snr", snr)


def sigmoid_weighting(bias: float = 0.0) -> Weighting:
    """(1 + SNR) / SNR · sigmoid(b − log SNR), as a weight of the noise error.

    A sigmoid of the log-SNR (Kingma & Gao 2023; Hoogeboom et al. 2024) on the error of v: fine
    detail, above e^b, weighs less than in `v_weighting`, and high noise as much. So it, too, is for
    networks that predict v or z_0: of one that predicts the noise it weighs the error near t = T by
    a factor of thousands and more.

    Raises:
        ValueError: when the bias is no finite number.

    Example:
        >>> import jax.numpy as jnp
        >>> sigmoid_weighting()(jnp.array([1.0, 0.25])).tolist()
        [1.0, 4.0]
    """
    expect_number("bias", bias)
    return lambda snr: v_weighting()(snr) * jax.nn.sigmoid(bias - jnp.log(snr))
