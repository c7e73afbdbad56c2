"""Kronecker factors of the Gauss–Newton matrix of a Flax network (Martens & Grosse 2015, "K-FAC").

For squared loss the matrix is JᵀJ, which linear quadratic fine-tuning keeps constant: the factors
are found once, at w_0, from the network itself. A linear layer s = aW + b with its inputs a (a
one beside them for the bias) has the block

    Σ_i Σ_c (a_i a_iᵀ) ⊗ (g_ic g_icᵀ) ≈ A ⊗ G,   g_ic = ∂f_c(x_i)/∂s,

with A the mean of a aᵀ and G the sum of g gᵀ over examples and outputs.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmdiffusion_jax import errors


class Factors(NamedTuple):
    """The factors of one linear layer.

    Attributes:
        inputs: A, (in + 1, in + 1), or (in, in) without a bias.
        outputs: G, (out, out).
    """

    inputs: jax.Array
    outputs: jax.Array


def kronecker_factors(net: nn.Module, params: Any, x: jax.Array) -> dict[tuple[str, ...], Factors]:
    """The factors of all `flax.linen.Dense` layers of a network, by the layers' paths.

    Args:
        net: called with x alone; gives (n, classes). Each of its Dense layers is called once, with
            inputs (n, in).
        params: w_0.
        x: (n, …).

    Raises:
        ValueError: no Dense layer, or one that is called twice or with other inputs.

    Example:
        >>> net, x = nn.Dense(2, name="head"), jnp.ones((3, 4))
        >>> params = net.init(jax.random.key(0), x)["params"]
        >>> factors = kronecker_factors(net, params, x)[()]
        >>> factors.inputs.shape, factors.outputs.tolist()
        ((5, 5), [[3.0, 0.0], [0.0, 3.0]])
    """
    shapes: dict[tuple[str, ...], tuple[int, ...]] = {}

    def run(shifts: Mapping[tuple[str, ...], jax.Array]) -> Any:
        seen: dict[tuple[str, ...], jax.Array] = {}

        def watch(call: Any, arguments: Any, keywords: Any, context: Any) -> Any:
            out = call(*arguments, **keywords)
            if not isinstance(context.module, nn.Dense) or context.method_name != "__call__":
                return out
            path = context.module.path
            if path in seen or arguments[0].ndim != 2:
                raise errors.invalid(
                    "net",
                    f"layer {'/'.join(path)!r} called twice or with {arguments[0].shape}",
                    "Dense layers that are called once with (n, in)",
                    "use `solve` without a preconditioner",
                )
            seen[path], shapes[path] = arguments[0], out.shape
            return out + shifts[path] if path in shifts else out

        with nn.intercept_methods(watch):
            value = net.apply({"params": params}, x)
        return value, seen

    value, _ = jax.eval_shape(run, {})
    if not shapes:
        raise errors.invalid("net", "no Dense layer", "one or more", "there is nothing to factor")
    zeros = {path: jnp.zeros(shape, value.dtype) for path, shape in shapes.items()}
    _, pull, seen = jax.vjp(run, zeros, has_aux=True)
    # One pull an output: all examples at once, as each depends on its own shift alone.
    ones = jnp.eye(value.shape[1], dtype=value.dtype)[:, None, :]
    (gradients,) = jax.vmap(pull)(jnp.broadcast_to(ones, (value.shape[1], *value.shape)))
    factors = {}
    for path, a in seen.items():
        if "bias" in _at(params, path):
            a = jnp.concatenate([a, jnp.ones((len(a), 1), a.dtype)], axis=1)
        g = gradients[path]
        factors[path] = Factors(a.T @ a / len(a), jnp.einsum("cno,cnp->op", g, g))
    return factors


def kronecker_preconditioner(
    factors: Mapping[tuple[str, ...], Factors], weight_decay: float
) -> Callable[[Any], Any]:
    """v → (A ⊗ G + λ I)⁻¹ v for each layer, by the eigenvectors of both factors: exact damping.

    Other parameters stay as they are. On CPUs make one after another, not under `jax.vmap`, as with
    `closed_form`.

    Args:
        factors: from `kronecker_factors`.
        weight_decay: λ of the quadratic loss, above 0.

    Returns:
        A linear map of pytrees like the parameters, for `solve`.

    Example:
        >>> factors = {(): Factors(jnp.eye(1), 3 * jnp.eye(2))}
        >>> kronecker_preconditioner(factors, 1.0)({"kernel": jnp.ones((1, 2))})["kernel"].tolist()
        [[0.25, 0.25]]
    """
    bases = {}
    for path, (inputs, outputs) in factors.items():
        (a, u), (g, v) = jnp.linalg.eigh(inputs), jnp.linalg.eigh(outputs)
        scale = jnp.maximum(a, 0)[:, None] * jnp.maximum(g, 0) + weight_decay
        bases[path] = (u, v, scale)

    def precondition(tree: Any) -> Any:
        for path, (u, v, scale) in bases.items():
            layer = _at(tree, path)
            rows = layer["kernel"]
            if "bias" in layer:
                rows = jnp.concatenate([rows, layer["bias"][None]])
            rows = u @ ((u.T @ rows @ v) / scale) @ v.T
            new = {**layer, "kernel": rows[: len(layer["kernel"])]}
            if "bias" in layer:
                new["bias"] = rows[-1]
            tree = _with(tree, path, new)
        return tree

    return precondition


def _at(tree: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        tree = tree[name]
    return tree


def _with(tree: Any, path: tuple[str, ...], new: Any) -> Any:
    return {**tree, path[0]: _with(tree[path[0]], path[1:], new)} if path else new
