"""What a traced function computes, read from its jaxpr."""

import itertools
import math

import jax
from jax.extend import core


def equations(jaxpr, every_platform=False):
    """(equation, how often it runs) for all equations, inner ones too.

    Of a choice of platforms only the last branch counts, which is the default's, or every one.
    """
    for equation in jaxpr.eqns:
        yield equation, 1
        times = equation.params["length"] if equation.primitive.name == "scan" else 1
        inner = inner_jaxprs(equation)
        if equation.primitive.name == "cond" and not every_platform:
            inner = inner[-1:]
        for body in inner:
            yield from ((e, times * count) for e, count in equations(body, every_platform))


def inner_jaxprs(equation):
    """The jaxprs inside an equation, in order."""
    leaves = jax.tree.leaves(
        list(equation.params.values()),
        is_leaf=lambda x: isinstance(x, core.Jaxpr | core.ClosedJaxpr),
    )
    opened = (x.jaxpr if isinstance(x, core.ClosedJaxpr) else x for x in leaves)
    return [x for x in opened if isinstance(x, core.Jaxpr)]


def product_flops(function, *arguments):
    """FLOPs of all matrix products and convolutions, without those with a padding's zeros."""
    jaxpr = jax.make_jaxpr(function)(*arguments).jaxpr
    return sum(count * _flops(equation) for equation, count in equations(jaxpr))


def _flops(equation):
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
