"""Counts floating-point operations, by the compiler or, where there are loops, in the trace."""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend import core


def equations(jaxpr: core.Jaxpr, every_platform: bool = False) -> Iterator[tuple[Any, int]]:
    """(equation, how often it runs) for all equations, inner ones too.

    Args:
        jaxpr: of `jax.make_jaxpr`.
        every_platform: whether all branches of a condition or of a choice of platforms count. Else
            only the last does, that of a true condition and of the default platform.

    Example:
        >>> jaxpr = jax.make_jaxpr(lambda x: 2 * x + 1)(1.0).jaxpr
        >>> [equation.primitive.name for equation, _ in equations(jaxpr)]
        ['mul', 'add']
    """
    for equation in jaxpr.eqns:
        yield equation, 1
        times = equation.params["length"] if equation.primitive.name == "scan" else 1
        inner = _inner(equation)
        if equation.primitive.name == "cond" and not every_platform:
            inner = inner[-1:]
        for body in inner:
            yield from ((e, times * count) for e, count in equations(body, every_platform))


def product_flops(function: Callable[..., Any], *arguments: Any) -> int:
    """FLOPs of all matrix products and convolutions of a call, 2 a multiply-add.

    Those with a padding's zeros are left out, as is everything elementwise. Nothing is computed.

    Args:
        function: of arrays or pytrees of them.
        *arguments: arrays, or `jax.ShapeDtypeStruct`s in their place.

    Example:
        >>> import numpy as np
        >>> product_flops(lambda x, w: x @ w, np.ones((2, 3)), np.ones((3, 4)))
        48
    """
    jaxpr = jax.make_jaxpr(function)(*arguments).jaxpr
    return sum(times * _flops(equation) for equation, times in equations(jaxpr))


def program_flops(
    traced: jax.stages.Traced, program: jax.stages.Lowered | jax.stages.Compiled, num_devices: int
) -> float:
    """FLOPs of a program on one device; 0 where the compiler does not count them.

    The compiler counts them, but the body of a loop only once, however often it runs. Of a program
    with loops the FLOPs are those of matrix products and convolutions, as in `product_flops`.

    Args:
        traced: the function, `jax.jit(f).trace(…)`.
        program: lowered or compiled from it.
        num_devices: that share the traced work; `program` is that of one of them.

    Example:
        >>> import jax.numpy as jnp
        >>> power = jax.jit(lambda w: jax.lax.fori_loop(0, 10, lambda _, x: x @ w, w))
        >>> traced = power.trace(jnp.ones((4, 4)))
        >>> program_flops(traced, traced.lower().compile(), num_devices=1)  # 10 · 2 · 4³
        1280.0
    """
    counts = [(_flops(equation), times) for equation, times in equations(traced.jaxpr.jaxpr)]
    if any(flops and times > 1 for flops, times in counts):
        return sum(flops * times for flops, times in counts) / num_devices
    return float((program.cost_analysis() or {}).get("flops", 0.0))


def _inner(equation: Any) -> list[core.Jaxpr]:
    leaves = jax.tree.leaves(
        list(equation.params.values()),
        is_leaf=lambda x: isinstance(x, core.Jaxpr | core.ClosedJaxpr),
    )
    opened = (x.jaxpr if isinstance(x, core.ClosedJaxpr) else x for x in leaves)
    return [x for x in opened if isinstance(x, core.Jaxpr)]


def _flops(equation: Any) -> int:
    if equation.primitive.name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        left, out = equation.invars[0].aval.shape, equation.outvars[0].aval
        return 2 * out.size * math.prod(left[axis] for axis in contracted)
    if equation.primitive.name == "conv_general_dilated":
        numbers, strides = equation.params["dimension_numbers"], equation.params["window_strides"]
        left, kernel = (x.aval.shape for x in equation.invars)
        out = equation.outvars[0].aval.shape
        flops = 2 * out[numbers.out_spec[0]] * math.prod(kernel[a] for a in numbers.rhs_spec[:2])
        for axis, (before, _) in enumerate(equation.params["padding"], start=2):
            places = itertools.product(
                range(out[numbers.out_spec[axis]]), range(kernel[numbers.rhs_spec[axis]])
            )
            size = left[numbers.lhs_spec[axis]]
            stride = strides[axis - 2]
            flops *= sum(0 <= place * stride + tap - before < size for place, tap in places)
        return flops
    return 0
