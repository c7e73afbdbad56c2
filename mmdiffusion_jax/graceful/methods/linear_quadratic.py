"""Linear quadratic fine-tuning (Achille et al. 2021, "LQF"): training in closed form.

The network is replaced by its first-order expansion around pretrained weights w_0,

    f_lin(x; δ) = f(x; w_0) + J(x) δ,    J(x) = ∂f(x; w_0)/∂w,

and trained on ½ Σ ‖f_lin(x_i; δ) − α y_i‖² + ½ λ ‖δ‖² with y one-hot. This is a quadratic function
of δ, so that its minimum, the minimum without one example, and the influence of an example have
closed forms. The activation should be a leaky ReLU, whose expansion is better, and α about 15: at
α = 1 the targets are nearer to zero than the network's outputs are to each other.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from mmdiffusion_jax import errors

Apply = Callable[[Any, jax.Array], jax.Array]
"""(parameters, x (n, …)) → outputs (n, classes)."""


def linearised(apply: Apply, params: Any) -> Apply:
    """f_lin as a function of δ, a pytree like the parameters: (δ, x) → f(x; w_0) + J(x) δ.

    Example:
        >>> square = lambda w, x: (w * x) ** 2
        >>> float(linearised(square, 3.0)(0.5, 1.0))  # 9 + 2 · 3 · 0.5
        12.0
    """

    def f_lin(delta: Any, x: jax.Array) -> jax.Array:
        value, push = jax.jvp(lambda w: apply(w, x), (params,), (delta,))
        return value + push

    return f_lin


def targets(labels: jax.Array, num_classes: int, alpha: jax.Array | float = 15.0) -> jax.Array:
    """α times one-hot labels: (n,) → (n, classes).

    Example:
        >>> targets(jnp.array([1]), 3).tolist()
        [[0.0, 15.0, 0.0]]
    """
    return alpha * jax.nn.one_hot(labels, num_classes)


def quadratic_loss(
    f_lin: Apply, delta: Any, x: jax.Array, wanted: jax.Array, weight_decay: float
) -> jax.Array:
    """½ Σ_i ‖f_lin(x_i; δ) − α y_i‖² + ½ λ ‖δ‖², summed over examples; a scalar.

    Args:
        f_lin: from `linearised`.
        delta: δ.
        x: (n, …).
        wanted: (n, classes), from `targets`.
        weight_decay: λ; the sum over examples, not their mean, stands beside it.

    Example:
        >>> f_lin = linearised(lambda w, x: x * w, jnp.array([1.0]))
        >>> float(quadratic_loss(f_lin, jnp.array([2.0]), jnp.ones((1, 1)), jnp.zeros((1, 1)), 1.0))
        6.5
    """
    decay = optax.tree.norm(delta, squared=True)
    return 0.5 * jnp.sum((f_lin(delta, x) - wanted) ** 2) + 0.5 * weight_decay * decay


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ClosedForm:
    """The minimum of the quadratic loss, and its minimum without one example.

    With the rows of J stacked over examples and classes, r = α y − f(x; w_0) and K = J Jᵀ,

        δ = Jᵀ (K + λ I)⁻¹ r.

    Attributes:
        delta: δ, a vector of all parameters in the order of `ravel_pytree`.
        jacobian: J, (n, classes, parameters).
        inverse: (K + λ I)⁻¹, (n, classes, n, classes).
        duals: (K + λ I)⁻¹ r, (n, classes).
        wanted: α y, (n, classes).
    """

    delta: jax.Array
    jacobian: jax.Array
    inverse: jax.Array
    duals: jax.Array
    wanted: jax.Array

    def without(self, index: jax.Array | int) -> jax.Array:
        """δ (parameters,) of a fit that never saw example i: exact removal, without a fit.

        δ₋ᵢ = δ − Jᵀ B_{:i} (B_ii)⁻¹ u_i, where B is the inverse above and u the duals.
        """
        step = self._step(index)
        change = jnp.einsum("ncd,d->nc", self.inverse[:, :, index, :], step)
        return self.delta - jnp.einsum("ncp,nc->p", self.jacobian, change)

    def leave_one_out(self) -> jax.Array:
        """The outputs (n, classes) for each example of a fit without it.

        α y_i − (B_ii)⁻¹ u_i, the closed form of Achille et al., section 4.
        """
        # One after another: batches of factorisations at once can lock up a CPU's threads.
        return self.wanted - jax.lax.map(self._step, jnp.arange(len(self.duals)))

    def influence(self, index: jax.Array | int, jacobian: jax.Array) -> jax.Array:
        """How an example changed other outputs: f_lin of the fit with it minus that without it.

        Args:
            index: i.
            jacobian: (m, classes, parameters), J of the examples that are predicted.

        Returns:
            (m, classes).
        """
        return jacobian @ (self.delta - self.without(index))

    def _step(self, index: jax.Array | int) -> jax.Array:
        return jnp.linalg.solve(self.inverse[index, :, index, :], self.duals[index])


def jacobian_of(apply: Apply, params: Any, x: jax.Array) -> jax.Array:
    """J at w_0 as one array: (n, …) → (n, classes, parameters).

    Example:
        >>> jacobian_of(lambda w, x: x * w, jnp.array([1.0]), jnp.array([[3.0]])).tolist()
        [[[3.0]]]
    """
    flat, unravel = ravel_pytree(params)
    return jax.jacrev(lambda w: apply(unravel(w), x))(flat)


def closed_form(
    apply: Apply, params: Any, x: jax.Array, wanted: jax.Array, weight_decay: float
) -> ClosedForm:
    """The minimum of the quadratic loss by one factorisation of (n · classes)² numbers.

    It holds n · classes · (parameters + n · classes) numbers; where they are too many, use `solve`.
    On CPUs fit one problem after another instead of under `jax.vmap`: jaxlib's batched
    factorisations can wait for each other for ever.

    Args:
        apply: the network.
        params: w_0.
        x: (n, …).
        wanted: (n, classes), from `targets`.
        weight_decay: λ, above 0.

    Raises:
        ValueError: a λ that is not positive.

    Example:
        >>> line = lambda w, x: x * w
        >>> fit = closed_form(line, jnp.array([0.0]), jnp.array([[2.0]]), jnp.array([[6.0]]), 1.0)
        >>> round(float(fit.delta[0]), 4)  # 2 · 6 / (2² + 1)
        2.4
    """
    if not weight_decay > 0:
        raise errors.invalid("weight_decay", weight_decay, "above 0", "a small one will do")
    jacobian = jacobian_of(apply, params, x)
    residual = wanted - apply(params, x)
    rows = jacobian.reshape(residual.size, -1)
    kernel = rows @ rows.T + weight_decay * jnp.eye(len(rows), dtype=rows.dtype)
    inverse = jnp.linalg.inv(kernel)
    duals = inverse @ residual.ravel()
    return ClosedForm(
        delta=rows.T @ duals,
        jacobian=jacobian,
        inverse=inverse.reshape(*residual.shape, *residual.shape),
        duals=duals.reshape(residual.shape),
        wanted=wanted,
    )


def solve(
    apply: Apply,
    params: Any,
    x: jax.Array,
    wanted: jax.Array,
    weight_decay: float,
    num_steps: int,
    precondition: Callable[[Any], Any] = lambda gradient: gradient,
) -> tuple[Any, jax.Array]:
    """The same minimum by conjugate gradients, which hold a few copies of the parameters.

    Each step takes one product with J and one with Jᵀ over all examples.

    Args:
        apply: the network.
        params: w_0.
        x: (n, …).
        wanted: (n, classes), from `targets`.
        weight_decay: λ.
        num_steps: how many.
        precondition: a fixed, symmetric, positive linear map of pytrees like the parameters, near
            the inverse of JᵀJ + λ I; `kronecker_preconditioner` gives one.

    Returns:
        (δ, the loss after each step (num_steps,)).

    Example:
        >>> line = lambda w, x: x * w
        >>> delta, _ = solve(line, jnp.array([0.0]), jnp.array([[2.0]]), jnp.array([[6.0]]), 1.0, 1)
        >>> round(float(delta[0]), 4)
        2.4
    """
    start, push = jax.linearize(lambda w: apply(w, x), params)
    pull = jax.linear_transpose(push, params)
    residual = wanted - start

    def curvature(v: Any) -> Any:
        (back,) = pull(push(v))
        return optax.tree.add_scale(back, weight_decay, v)

    def loss(delta: Any) -> jax.Array:
        apart = push(delta) - residual
        return 0.5 * jnp.sum(apart**2) + 0.5 * weight_decay * optax.tree.vdot(delta, delta)

    def step(carry: Any, _: None) -> tuple[Any, jax.Array]:
        delta, left, direction, size = carry
        curved = curvature(direction)
        length = size / jnp.maximum(optax.tree.vdot(direction, curved), _least(size))
        delta = optax.tree.add_scale(delta, length, direction)
        left = optax.tree.add_scale(left, -length, curved)
        better = precondition(left)
        new_size = optax.tree.vdot(left, better)
        ratio = new_size / jnp.maximum(size, _least(size))
        direction = optax.tree.add_scale(better, ratio, direction)
        return (delta, left, direction, new_size), loss(delta)

    (left,) = pull(residual)
    direction = precondition(left)
    zeros = jax.tree.map(jnp.zeros_like, params)
    carry = (zeros, left, direction, optax.tree.vdot(left, direction))
    (delta, *_), losses = jax.lax.scan(step, carry, length=num_steps)
    return delta, losses


def _least(x: jax.Array) -> float:
    return float(jnp.finfo(x.dtype).tiny)
