"""Blocks with rematerialisation and as a scan against the plain ones, and what they save."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdiffusion_jax.networks import DiT, stack_layers, unstack_layers
from mmdiffusion_jax.networks.blocks import REMATS
from mmdiffusion_jax.training import product_flops
from tests.networks.small_nets import arguments, parameters, plain_step, shapes, small, step

SCANNED = (("dit", 2), ("uvit", 5))


def same(got, want):
    chex.assert_trees_all_close(got, want, rtol=1e-4, atol=1e-5)


def cost(net):
    """FLOPs of the products of a step."""
    return product_flops(step(net), shapes(net), *arguments(net))


@pytest.mark.parametrize("kind", ["dit", pytest.param("unet", marks=pytest.mark.long)])
def test_remat_changes_no_gradient(kind):
    net = small(kind, remat="nothing_saveable")
    params, *want = plain_step(kind)
    same(list(jax.jit(step(net))(params, *arguments(net))), want)


@pytest.mark.parametrize("kind", ["dit", pytest.param("unet", marks=pytest.mark.long)])
def test_the_less_is_saved_the_more_is_computed(kind):
    costs = {remat: cost(small(kind, remat=remat)) for remat in REMATS}
    assert costs["none"] == costs["dots_saveable"]
    assert costs["none"] < costs["dots_with_no_batch_dims_saveable"] < costs["nothing_saveable"]


@pytest.mark.parametrize(
    ("kind", "depth", "remat"),
    [("dit", 2, "none"), pytest.param("uvit", 5, "nothing_saveable", marks=pytest.mark.long)],
)
def test_a_scan_equals_its_blocks(kind, depth, remat):
    net = small(kind, depth=depth, scan_layers=True, remat=remat)
    params, gradient, answer = plain_step(kind, depth=depth)
    stacked = stack_layers(params)
    assert jax.tree.map(jnp.shape, stacked) == jax.tree.map(jnp.shape, shapes(net))
    got, scanned = jax.jit(step(net))(stacked, *arguments(net))
    same(scanned, answer)
    same(unstack_layers(jax.device_get(got)), gradient)


@pytest.mark.parametrize(("kind", "depth"), SCANNED)
def test_stacking_has_an_inverse(kind, depth):
    tree = {"backbone": parameters(small(kind, depth=depth)), "head": {"bias": jnp.ones(2)}}
    same(unstack_layers(stack_layers(tree)), tree)
    same(stack_layers(stack_layers(tree)), stack_layers(tree))


def test_a_gap_between_blocks():
    with pytest.raises(ValueError, match=r"`params`: got blocks \[0, 2\], expected blocks counted"):
        stack_layers({"blocks_0": {}, "blocks_2": {}})


@pytest.mark.parametrize(("kind", "depth"), [("dit", 0), ("uvit", 1)])
def test_no_blocks_to_scan(kind, depth):
    assert shapes(small(kind, depth=depth, scan_layers=True)) == shapes(small(kind, depth=depth))


def test_both_forms_begin_alike():
    """Each block of its own draw, at the scale that it has alone; zeros and ones as they are."""
    trees = []
    for scan in (False, True):
        net = small("dit", width=32, scan_layers=scan)
        params = jax.jit(net.init)(jax.random.key(0), *arguments(net))["params"]
        trees.append(unstack_layers(jax.device_get(params)))
    plain, scanned = trees
    assert jax.tree.map(jnp.shape, plain) == jax.tree.map(jnp.shape, scanned)
    for (path, one), other in zip(jax.tree.leaves_with_path(plain), jax.tree.leaves(scanned)):
        if np.ptp(one) == 0:
            np.testing.assert_array_equal(other, one, err_msg=str(path))
        else:
            np.testing.assert_allclose(np.std(other), np.std(one), rtol=0.2, err_msg=str(path))
    first, second = (scanned[f"blocks_{index}"]["query"]["kernel"] for index in range(2))
    assert np.abs(first - second).max() > 0.01


@pytest.mark.long
def test_a_scan_with_remat_saves_memory():
    """What the compiler sets aside for a step of 8 blocks; a batch makes it outweigh the rest."""
    held = []
    for options in ({}, {"scan_layers": True, "remat": "nothing_saveable"}):
        net = DiT((16, 16, 2), 2, 10, width=64, depth=8, num_heads=2, **options)
        compiled = jax.jit(step(net)).lower(shapes(net), *arguments(net, batch=16)).compile()
        held.append(compiled.memory_analysis().temp_size_in_bytes)
    assert held[1] <= 0.4 * held[0], held
