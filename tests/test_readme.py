"""The README's examples run as they stand."""

import re
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import pytest

TEXT = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def names():
    """What the README's own code defines, in its order."""
    namespace: dict = {}
    for code in re.findall(r"```python\n(.*?)```", TEXT, re.S):
        if "import" in code:
            exec(code, namespace)
    return namespace


@pytest.fixture(scope="module")
def params():
    shapes = {"in": (2, 16), "time": (101, 16), "noise": (16, 2), "label": (16, 10)}
    return {
        name: 0.1 * jax.random.normal(jax.random.key(i), shape)
        for i, (name, shape) in enumerate(shapes.items())
    }


def test_the_losses_in_somebody_elses_code(names, params):
    batch = {"point": jnp.ones((8, 2)), "label": jnp.arange(8)}
    gradient = jax.jit(jax.grad(names["loss"]))(params, jax.random.key(0), batch)
    chex.assert_tree_all_finite(gradient)
    assert all(float(jnp.abs(leaf).max()) > 0 for leaf in jax.tree.leaves(gradient))


def test_points_of_labels(names, params):
    points_of = jax.jit(names["points_of"])
    points = points_of(params, jax.random.key(0), jnp.arange(8))
    assert points.shape == (8, 2)
    assert bool(jnp.isfinite(points).all())
    others = points_of(params, jax.random.key(0), jnp.arange(8)[::-1])
    assert float(jnp.abs(points - others).max()) > 0.01
