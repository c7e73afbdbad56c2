"""bfloat16 backbones: where they compute in it, where not, and how near float32 they stay."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdiffusion_jax.networks.precision import linear
from mmdiffusion_jax.training.flops import equations
from tests.networks.small_nets import KINDS, answer, arguments, plain_step, shapes, small, step

PRODUCTS = ("dot_general", "conv_general_dilated")
WHOLE = (("dit", {}), ("uvit", {}), ("unet", {"channel_mults": (1, 1.5)}))
ACCURATE = ("exp", "rsqrt", "cos", "sin", "div", "reduce_sum", "reduce_max")


def apart(got, want):
    """The distance over the length."""
    got, want = (
        np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)]) for tree in (got, want)
    )
    return np.linalg.norm(got - want) / np.linalg.norm(want)


@pytest.mark.parametrize("kind", [pytest.param("uvit", marks=pytest.mark.long), "unet"])
def test_answers_are_near_those_of_float32(kind):
    net = small(kind, dtype="bfloat16")
    params, _, want = plain_step(kind)
    got = jax.jit(functools.partial(answer, net))(params, *arguments(net))
    assert {x.dtype for x in got} == {jnp.dtype("float32")}
    assert 1e-4 < apart(got, want) < 0.02


def test_a_step_is_near_that_of_float32():
    net = small("dit", dtype="bfloat16")
    params, *wide = plain_step("dit")
    narrow = jax.jit(step(net))(params, *arguments(net))
    assert {x.dtype for x in jax.tree.leaves(narrow)} == {jnp.dtype("float32")}
    for got, want in zip(narrow, wide):
        assert 1e-4 < apart(got, want) < 0.02


@pytest.mark.parametrize(("kind", "options"), WHOLE)
def test_products_take_bfloat16_and_sums_float32(kind, options):
    net = small(kind, dtype="bfloat16", **options)
    params = shapes(net)
    assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    jaxpr = jax.make_jaxpr(net.apply)({"params": params}, *arguments(net)).jaxpr
    seen = set()
    for equation, _ in equations(jaxpr, every_platform=True):
        name = equation.primitive.name
        dtypes = {x.aval.dtype.name for x in equation.invars}
        if name in PRODUCTS:
            assert dtypes == {"bfloat16"}, equation
        if name in ACCURATE:
            assert "bfloat16" not in dtypes, equation
        seen.add(name)
    assert seen >= {"dot_general", "exp", "rsqrt", "reduce_sum", "reduce_max"}


@pytest.mark.parametrize(("kind", "options"), WHOLE)
def test_gradients_are_summed_in_float32(kind, options):
    """But for the two times two copies of a pixel in a map of twice the size."""
    net = small(kind, dtype="bfloat16", **options)
    jaxpr = jax.make_jaxpr(step(net))(shapes(net), *arguments(net)).jaxpr
    for equation, _ in equations(jaxpr, every_platform=True):
        if equation.primitive.name == "reduce_sum" and equation.invars[0].aval.dtype == "bfloat16":
            assert equation.invars[0].aval.size <= 2 * equation.outvars[0].aval.size, equation


class _Line(nn.Module):
    dtype: str

    @nn.compact
    def __call__(self, inputs):
        return linear(inputs, 1, "line", self.dtype)


def test_the_bias_of_many_places():
    """The gradient of a sum over 4,096 places; in bfloat16 it would end far below."""
    inputs = jnp.ones((4096, 2))
    net = _Line("bfloat16")
    params = net.init(jax.random.key(0), inputs)
    gradient = jax.jit(jax.grad(lambda p: net.apply(p, inputs).astype(jnp.float32).sum()))(params)
    assert gradient["params"]["line"]["bias"].item() == 4096


@pytest.mark.parametrize("kind", KINDS)
def test_float32_knows_no_bfloat16(kind):
    net = small(kind)
    jaxpr = jax.make_jaxpr(net.apply)({"params": shapes(net)}, *arguments(net))
    assert "bf16" not in str(jaxpr)
