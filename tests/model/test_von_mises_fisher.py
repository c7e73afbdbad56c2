"""The von Mises–Fisher distribution against quadrature, SciPy and its own density."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from mmdiffusion_jax.model import (
    von_mises_fisher_draw,
    von_mises_fisher_log_prob,
    von_mises_fisher_resultant,
)

KAPPAS = np.array([0.0, 1e-3, 0.1, 1.0, 7.0, 50.0, 300.0, 2000.0, 3e4], np.float32)
DIMS = (2, 3, 16, 257, 1024)


def quadrature(dims, kappa):
    """log ∫ exp(κ μ·x) dS and E[μ·x], by the trapezoidal rule over the angle to μ."""
    at_most = np.pi if kappa < 100 else min(np.pi, 60 / np.sqrt(kappa / np.sqrt(dims)))
    angle = np.linspace(0, at_most, 40_001)[1:-1]
    log_weight = kappa * np.cos(angle) + (dims - 2) * np.log(np.sin(angle))
    if dims == 2:  # the ends count where sin^0 does not vanish
        angle = np.linspace(0, at_most, 40_001)
        log_weight = kappa * np.cos(angle) + np.log(np.where(angle % at_most == 0, 0.5, 1))
    log_sum = scipy.special.logsumexp(log_weight)
    mean = np.sum(np.exp(log_weight - log_sum) * np.cos(angle))
    area = np.log(2) + (dims - 1) / 2 * np.log(np.pi) - scipy.special.gammaln((dims - 1) / 2)
    return log_sum + np.log(angle[1] - angle[0]) + area, mean


@pytest.mark.parametrize("dims", DIMS)
def test_normaliser_and_mean_by_quadrature(dims):
    mu = jnp.zeros((len(KAPPAS), dims)).at[:, 0].set(1.0)

    @jax.jit
    def run(kappa):
        def at_mu(kappa):
            return von_mises_fisher_log_prob(mu, kappa, mu)

        slope = jax.grad(lambda kappa: at_mu(kappa).sum())(kappa)
        return at_mu(kappa), von_mises_fisher_resultant(dims, kappa), slope

    log_prob, resultant, slope = run(jnp.asarray(KAPPAS))
    want = np.array([quadrature(dims, float(kappa)) for kappa in KAPPAS])
    # Single precision resolves κ − log ∫ to its share of κ.
    error = np.abs(np.asarray(log_prob, np.float64) - (KAPPAS - want[:, 0]))
    assert (error <= 2e-5 + 3e-7 * np.maximum(KAPPAS, np.abs(want[:, 0]))).all()
    np.testing.assert_allclose(resultant, want[:, 1], rtol=2e-5, atol=1e-7)
    # The derivative of the normaliser is the mean.
    np.testing.assert_allclose(slope, 1 - np.asarray(resultant), atol=3e-6)


def test_bessel_functions_of_scipy():
    """The same where SciPy's scaled Bessel function neither under- nor overflows."""
    for dims in (2, 3, 10, 51):
        kappa = np.array([0.5, 5.0, 80.0])
        order = dims / 2 - 1
        ratio = scipy.special.ive(order + 1, kappa) / scipy.special.ive(order, kappa)
        got = von_mises_fisher_resultant(dims, jnp.asarray(kappa, jnp.float32))
        np.testing.assert_allclose(got, ratio, rtol=1e-5)


@pytest.mark.parametrize(("dims", "kappa"), [(2, 0.3), (2, 500.0), (3, 2.0), (64, 40.0)])
def test_draws_have_the_density(dims, kappa):
    """The share along μ by a Kolmogorov–Smirnov test; the rest has no direction of its own."""
    mu = jnp.ones((8_000, dims)) / jnp.sqrt(float(dims))
    x = jax.jit(von_mises_fisher_draw)(
        jax.random.key(0), mu, jnp.full((8_000,), kappa, jnp.float32)
    )
    x = np.asarray(x, np.float64)
    np.testing.assert_allclose((x**2).sum(-1), 1, rtol=1e-5)
    share = x @ np.ones(dims) / np.sqrt(dims)
    angle = np.linspace(0, np.pi, 100_001)[1:-1]
    log_weight = kappa * (np.cos(angle) - 1) + (dims - 2) * np.log(np.sin(angle))
    cumulative = np.cumsum(np.exp(log_weight - log_weight.max()))
    test = scipy.stats.kstest(
        np.arccos(np.clip(share, -1, 1)), lambda a: np.interp(a, angle, cumulative / cumulative[-1])
    )
    assert test.pvalue > 0.001
    error = np.abs(x.mean(0) - share.mean() / np.sqrt(dims))
    assert error.max() < 5 * x.std(0).max() / np.sqrt(8_000)
