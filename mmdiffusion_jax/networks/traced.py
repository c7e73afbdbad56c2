"""What a traced function computes, read from its jaxpr."""

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
        every_platform: of a choice of platforms or of a condition, whether all branches count and
            not the last alone, which is the default's and the one of a condition that holds.

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
    return sum(count * _flops(equation) for equation, count in equations(jaxpr))


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
