"""Linear quadratic fine-tuning against scikit-learn's ridge regression on the Jacobian."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from sklearn.linear_model import Ridge

from mmdiffusion_jax import graceful

DECAY = 0.3


class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.leaky_relu(nn.Dense(7)(x), 0.2)
        return nn.Dense(3, use_bias=False)(x)


@pytest.fixture(scope="module")
def task():
    """Network, parameters, 9 examples and what is wanted of them; all in float64."""
    with jax.enable_x64(True):
        net, rng = Net(), np.random.default_rng(0)
        x = jnp.asarray(rng.normal(size=(9, 5)))
        params = net.init(jax.random.key(0), x)["params"]
        params = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), params)
        wanted = graceful.targets(jnp.asarray(rng.integers(0, 3, 9)), 3)

        def apply(params, x):
            return net.apply({"params": params}, x)

        yield net, apply, params, x, wanted


def ridge(apply, params, x, wanted):
    """δ by scikit-learn, from finite differences of the network."""
    flat, unravel = ravel_pytree(params)
    step = 1e-6

    def moved(k, by):
        return np.asarray(apply(unravel(flat.at[k].add(by)), x))

    columns = [(moved(k, step) - moved(k, -step)) / (2 * step) for k in range(len(flat))]
    rows = np.stack(columns, axis=-1).reshape(-1, len(flat))
    residual = np.asarray(wanted - apply(params, x)).ravel()
    return Ridge(alpha=DECAY, fit_intercept=False, solver="cholesky").fit(rows, residual).coef_


def test_the_linearised_network_is_affine_and_touches_the_network(task):
    _, apply, params, x, _ = task
    f_lin = graceful.linearised(apply, params)
    keys = jax.random.split(jax.random.key(1), 2)
    one, other = (jax.tree.map(lambda p, k=k: jax.random.normal(k, p.shape), params) for k in keys)
    zero = jax.tree.map(jnp.zeros_like, params)
    mixed = jax.tree.map(lambda a, b: 0.3 * a + 0.7 * b, one, other)
    straight = 0.3 * f_lin(one, x) + 0.7 * f_lin(other, x)
    np.testing.assert_allclose(f_lin(mixed, x), straight, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(f_lin(zero, x), apply(params, x))
    bent = 0.3 * apply(one, x) + 0.7 * apply(other, x) - apply(mixed, x)
    assert np.abs(bent).max() > 0.1
    small = jax.tree.map(lambda p, d: p + 1e-5 * d, params, one)
    small_delta = jax.tree.map(lambda d: 1e-5 * d, one)
    np.testing.assert_allclose(apply(small, x), f_lin(small_delta, x), atol=1e-8)


def test_the_closed_form_is_ridge_regression(task):
    _, apply, params, x, wanted = task
    fit = graceful.closed_form(apply, params, x, wanted, DECAY)
    np.testing.assert_allclose(fit.delta, ridge(apply, params, x, wanted), rtol=1e-4, atol=1e-6)
    f_lin, unravel = graceful.linearised(apply, params), ravel_pytree(params)[1]
    gradient = jax.grad(lambda d: graceful.quadratic_loss(f_lin, d, x, wanted, DECAY))(
        unravel(fit.delta)
    )
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(gradient)) < 1e-8


@pytest.mark.parametrize("index", [0, 4, 8])
def test_an_example_is_removed_as_if_it_had_never_been(task, index):
    _, apply, params, x, wanted = task
    fit = graceful.closed_form(apply, params, x, wanted, DECAY)
    rest = np.delete(np.arange(len(x)), index)
    refit = graceful.closed_form(apply, params, x[rest], wanted[rest], DECAY)
    np.testing.assert_allclose(fit.without(index), refit.delta, rtol=1e-7, atol=1e-9)
    f_lin, unravel = graceful.linearised(apply, params), ravel_pytree(params)[1]
    alone = f_lin(unravel(refit.delta), x[index : index + 1])[0]
    np.testing.assert_allclose(fit.leave_one_out()[index], alone, rtol=1e-6)
    by_refit = f_lin(unravel(fit.delta), x) - f_lin(unravel(refit.delta), x)
    jacobian = graceful.jacobian_of(apply, params, x)
    np.testing.assert_allclose(fit.influence(index, jacobian), by_refit, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("preconditioned", [False, True])
def test_conjugate_gradients_reach_the_closed_form(task, preconditioned):
    net, apply, params, x, wanted = task
    options = {}
    if preconditioned:
        factors = graceful.kronecker_factors(net, params, x)
        options["precondition"] = graceful.kronecker_preconditioner(factors, DECAY)
    delta, losses = graceful.solve(apply, params, x, wanted, DECAY, 60, **options)
    fit = graceful.closed_form(apply, params, x, wanted, DECAY)
    np.testing.assert_allclose(ravel_pytree(delta)[0], fit.delta, rtol=1e-5, atol=1e-7)
    assert losses[-1] <= losses[0]


def test_the_factors_of_one_layer_are_exact(task):
    """JᵀJ of a single linear layer is A ⊗ G, so that one step of conjugate gradients is enough."""
    _, _, _, x, wanted = task
    net = nn.Dense(3)
    params = net.init(jax.random.key(0), x)["params"]
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), params)

    def apply(params, x):
        return net.apply({"params": params}, x)

    factors = graceful.kronecker_factors(net, params, x)
    ((a, g),) = factors.values()
    order = np.r_[3:18, 0:3]  # the bias comes first in a flat pytree, and last in A
    rows = graceful.jacobian_of(apply, params, x).reshape(-1, 18)[:, order]
    np.testing.assert_allclose(np.kron(a, g), rows.T @ rows, rtol=1e-9, atol=1e-9)
    precondition = graceful.kronecker_preconditioner(factors, DECAY)
    delta, _ = graceful.solve(apply, params, x, wanted, DECAY, 1, precondition)
    fit = graceful.closed_form(apply, params, x, wanted, DECAY)
    np.testing.assert_allclose(ravel_pytree(delta)[0], fit.delta, rtol=1e-8)


def test_factors_are_sums_over_outputs_of_squared_gradients(task):
    net, apply, params, x, _ = task
    factors = graceful.kronecker_factors(net, params, x)
    assert set(factors) == {("Dense_0",), ("Dense_1",)}
    # The diagonal of G of the first layer: a shift of its bias is one of its output.
    jacobian = jax.jacrev(
        lambda bias, row: apply({**params, "Dense_0": {**params["Dense_0"], "bias": bias}}, row)
    )
    each = [jacobian(params["Dense_0"]["bias"], row[None])[0] for row in x]
    wanted = sum(g.T @ g for g in each)
    np.testing.assert_allclose(factors[("Dense_0",)].outputs, wanted, rtol=1e-9, atol=1e-12)


def test_bad_input(task):
    _, apply, params, x, wanted = task
    with pytest.raises(ValueError, match="`weight_decay`: got 0, expected above 0"):
        graceful.closed_form(apply, params, x, wanted, 0)
    with pytest.raises(ValueError, match="`net`: got no Dense layer"):
        graceful.kronecker_factors(nn.LayerNorm(), {"scale": jnp.ones(5), "bias": jnp.zeros(5)}, x)

    class Twice(nn.Module):
        @nn.compact
        def __call__(self, x):
            layer = nn.Dense(5)
            return layer(layer(x))

    params = Twice().init(jax.random.key(0), x)["params"]
    with pytest.raises(ValueError, match="`net`: got layer 'Dense_0' called twice"):
        graceful.kronecker_factors(Twice(), params, x)
